//! Scopes: the control group of a VM's processes, so that they outlive the agent
//! and are accounted together.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Identity;

const ROOT: &str = "/sys/fs/cgroup";
/// Below this directory all groups are ours.
const OURS: &str = "godwit";
/// An ended process may stay in its group for a moment.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// How scopes are made on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scopes {
    /// By systemd, which then keeps its hands off the processes when the agent ends;
    /// `user`: by the one of a user.
    Systemd {
        /// Not root's.
        user: bool,
    },
    /// By ourselves: a group for each VM below each of these directories. They are
    /// the agent's own groups, so that a limit set on it holds for its VMs too.
    Groups(Vec<PathBuf>),
}

impl Scopes {
    /// Looks what this host has; no groups at all is possible too.
    pub(crate) fn probe() -> Self {
        let user = !rustix::process::geteuid().is_root();
        let manager = if user {
            std::env::var_os("XDG_RUNTIME_DIR")
                .map(|dir| PathBuf::from(dir).join("systemd/private"))
        } else {
            Some(PathBuf::from("/run/systemd/system"))
        };
        if manager.is_some_and(|path| path.exists()) {
            return Self::Systemd { user };
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::Groups(roots(Path::new(ROOT), &own))
    }

    /// The directories of a VM's groups, to be recorded: the next agent may live
    /// in other groups.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::Systemd { .. } => Vec::new(),
            Self::Groups(roots) => roots.iter().map(|root| root.join(OURS).join(name)).collect(),
        }
    }

    /// What is missing where there are none.
    pub(crate) fn lack(&self) -> Option<&'static str> {
        let none = matches!(self, Self::Groups(roots) if roots.is_empty());
        none.then_some("no control groups: what a VM uses is neither counted nor limited")
    }

    /// Wraps a command so that it runs in a new scope of that name.
    pub(crate) fn wrap(&self, name: &str, program: &Path, args: &[String]) -> Command {
        match self {
            Self::Systemd { user } => {
                let mut command = Command::new("systemd-run");
                if *user {
                    command.arg("--user");
                }
                command.args(["--scope", "--quiet", "--collect", "--slice=godwit.slice"]);
                command.arg(format!("--unit=godwit-{name}.scope"));
                command.arg("--").arg(program).args(args);
                command
            }
            Self::Groups(_) => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
        }
    }

    /// The groups of a process of ours, for another one to join.
    pub(crate) fn of(&self, groups: &[PathBuf], process: Option<Identity>) -> Vec<File> {
        match self {
            Self::Groups(_) => create(groups),
            // Only the unified hierarchy can be joined without systemd's help.
            Self::Systemd { .. } => {
                let directory = process.and_then(unified);
                directory.and_then(|dir| procs(&dir).ok()).into_iter().collect()
            }
        }
    }
}

/// Makes groups; their `cgroup.procs`, open for writing. A VM runs without, too.
pub(crate) fn create(groups: &[PathBuf]) -> Vec<File> {
    let make = |dir: &PathBuf| {
        fs::create_dir_all(dir)?;
        if let Some(parent) = dir.parent() {
            account(parent);
        }
        procs(dir)
    };
    let warn = |dir: &Path, error: &io::Error| {
        tracing::warn!(dir = %dir.display(), %error, "no control group");
    };
    groups.iter().filter_map(|dir| make(dir).inspect_err(|e| warn(dir, e)).ok()).collect()
}

/// Removes groups; systemd collects its scopes itself.
pub(crate) async fn remove(groups: &[PathBuf]) {
    for dir in groups {
        let mut tries = 0;
        while let Err(error) = crate::dirs::absent(fs::remove_dir(dir)) {
            tries += 1;
            if tries == TRIES {
                tracing::warn!(dir = %dir.display(), %error, "control group stays");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // Goes with the last VM.
        if let Some(parent) = dir.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Our own groups in the hierarchies that account for memory and tasks, as far as
/// we may use them. `own` is what `/proc/self/cgroup` says.
fn roots(mounted: &Path, own: &str) -> Vec<PathBuf> {
    let group = |controller: &str| {
        own.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let found = names.split(',').any(|name| name == controller);
            found.then(|| path.trim_start_matches('/'))
        })
    };
    let candidates = if mounted.join("cgroup.controllers").exists() {
        vec![group("").map(|path| mounted.join(path))]
    } else {
        let of = |name: &str| group(name).map(|path| mounted.join(name).join(path));
        vec![of("memory"), of("pids")]
    };
    candidates.into_iter().flatten().filter(|root| procs(root).is_ok()).collect()
}

/// In the unified hierarchy, controllers are handed down explicitly. Where that is
/// refused, the group still keeps the processes together.
fn account(parent: &Path) {
    for dir in [parent.parent(), Some(parent)].into_iter().flatten() {
        let file = dir.join("cgroup.subtree_control");
        if file.exists() {
            let _ = fs::write(file, "+memory +pids");
        }
    }
}

fn procs(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(dir.join("cgroup.procs"))
}

/// The directory of a process's group in the unified hierarchy.
fn unified(process: Identity) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A scope of systemd's; the agent's own service would end the carrier with the agent.
    path.ends_with(".scope").then(|| Path::new(ROOT).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_made_below_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for group in ["memory/jail", "pids", "agent"] {
            fs::create_dir_all(root.join(group)).unwrap();
            fs::write(root.join(group).join("cgroup.procs"), "").unwrap();
        }
        let own = "9:cpu,pids:/\n4:memory:/jail\n0::/agent\n";
        assert_eq!(roots(root, own), vec![root.join("memory/jail"), root.join("pids/")]);
        assert_eq!(roots(root, "4:memory:/other\n"), Vec::<PathBuf>::new());
        assert_eq!(roots(root, "nonsense"), Vec::<PathBuf>::new());
        fs::write(root.join("cgroup.controllers"), "memory pids").unwrap();
        assert_eq!(roots(root, own), vec![root.join("agent")]);
        let scopes = Scopes::Groups(roots(root, own));
        assert_eq!(scopes.directories("vm-s1"), vec![root.join("agent/godwit/vm-s1")]);
    }
}
