//! Where things are on a machine, for root and for anyone else.

use std::path::PathBuf;

use crate::failure::{FAILED, Failure};

/// The usual directories of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Configuration, certificates.
    pub(crate) config: PathBuf,
    /// Journal and logs; survives reboots.
    pub(crate) state: PathBuf,
    /// Sockets; does not.
    pub(crate) run: PathBuf,
    /// Guest memory.
    pub(crate) memory: PathBuf,
    /// The agent may mount, make taps and control groups.
    pub(crate) root: bool,
}

impl Places {
    /// The directories of whoever runs this program.
    ///
    /// # Errors
    /// Not root, and there is no home.
    pub(crate) fn of_this_user() -> Result<Self, Failure> {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Ok(Self::of_root());
        }
        let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = var("HOME").ok_or_else(|| {
            Failure::new(FAILED, "HOME is not set").help("set it, or name the files with --dir")
        })?;
        let uid = uid.as_raw();
        let run = var("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/tmp/godwit-{uid}").into());
        Ok(Self {
            config: var("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("godwit"),
            state: var("XDG_STATE_HOME")
                .unwrap_or_else(|| home.join(".local/state"))
                .join("godwit"),
            run: run.join("godwit"),
            memory: format!("/dev/shm/godwit-{uid}").into(),
            root: false,
        })
    }

    fn of_root() -> Self {
        Self {
            config: "/etc/godwit".into(),
            state: "/var/lib/godwit".into(),
            run: "/run/godwit".into(),
            memory: "/run/godwit/memory".into(),
            root: true,
        }
    }
}
