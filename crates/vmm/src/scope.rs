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
    /// By systemd, which then keeps its hands off the processes when the agent ends.
    Systemd,
    /// By ourselves: a group for each VM below each of these directories.
    Groups(Vec<PathBuf>),
}

impl Scopes {
    /// Looks what this host has; no groups at all is possible too.
    pub(crate) fn probe() -> Self {
        if Path::new("/run/systemd/system").is_dir() {
            return Self::Systemd;
        }
        Self::Groups(roots(Path::new(ROOT)))
    }

    /// Wraps a command so that it runs in a new scope of that name.
    pub(crate) fn wrap(&self, name: &str, program: &Path, args: &[String]) -> Command {
        match self {
            Self::Systemd => {
                let mut command = Command::new("systemd-run");
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

    /// Makes the groups of that name; their `cgroup.procs`, open for writing.
    pub(crate) fn create(&self, name: &str) -> Vec<File> {
        self.directories(name).iter().filter_map(|dir| open(dir, name)).collect()
    }

    /// The groups of a process of ours, for another one to join.
    pub(crate) fn of(&self, name: &str, process: Option<Identity>) -> Vec<File> {
        match (self, process) {
            (Self::Groups(_), _) => self.create(name),
            // Only the unified hierarchy can be joined without systemd's help.
            (Self::Systemd, Some(process)) => {
                unified(process).and_then(|dir| procs(&dir).ok()).into_iter().collect()
            }
            (Self::Systemd, None) => Vec::new(),
        }
    }

    /// Removes the groups of that name; systemd collects its scopes itself.
    pub(crate) async fn remove(&self, name: &str) {
        for dir in self.directories(name) {
            let mut tries = 0;
            while let Err(error) = crate::dirs::absent(fs::remove_dir(&dir)) {
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

    /// The directories of a VM's groups.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::Systemd => Vec::new(),
            Self::Groups(roots) => roots.iter().map(|root| root.join(OURS).join(name)).collect(),
        }
    }
}

/// The hierarchies in which memory and tasks are accounted, as far as we may use them.
fn roots(mounted: &Path) -> Vec<PathBuf> {
    let candidates = if mounted.join("cgroup.controllers").exists() {
        vec![mounted.to_owned()]
    } else {
        vec![mounted.join("memory"), mounted.join("pids")]
    };
    candidates.into_iter().filter(|root| procs(root).is_ok()).collect()
}

fn open(dir: &Path, name: &str) -> Option<File> {
    let make = || {
        fs::create_dir_all(dir)?;
        if let Some(parent) = dir.parent() {
            account(parent);
        }
        procs(dir)
    };
    make()
        .inspect_err(|error: &io::Error| {
            tracing::warn!(name, dir = %dir.display(), %error, "no control group");
        })
        .ok()
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
    // The agent's own group would end the carrier with the agent.
    path.contains(OURS).then(|| Path::new(ROOT).join(path))
}
