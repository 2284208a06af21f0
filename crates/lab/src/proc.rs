//! Processes by identity: a pid alone may have become somebody else's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::LabError;

/// Environment variable that every process of a lab inherits; its value is the
/// lab's id.
pub(crate) const MARKER: &str = "GODWIT_LAB_ID";

/// A process, told apart from a later one with the same pid by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in the root PID namespace.
    pub pid: u32,
    /// Start, in clock ticks after boot (field 22 of `/proc/PID/stat`).
    pub started: u64,
}

impl Identity {
    /// The identity of the process that has `pid` now; `None` when none runs.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).map(|started| Self { pid, started })
    }

    /// Whether exactly this process runs still; a zombie does not.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to exactly this process. `false`: it has ended already.
    pub fn signal(self, signal: Signal) -> Result<bool, LabError> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        // The descriptor pins the process; only then is it compared.
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
        if !self.alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(LabError::system(format!("signal process {}", self.pid))(errno)),
        }
    }

    /// Waits until it has ended; `false` after `limit`.
    pub fn wait_gone(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// The start time out of `/proc/PID/stat`; `None` for a zombie. The command's
/// name stands in parentheses and may hold anything, parentheses included.
fn parse_stat(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // The state is field 3, the start time field 22.
    fields.nth(18)?.parse().ok()
}

/// Identity of a namespace: device and inode of the file that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// The namespace that a path such as `/run/netns/x` or `/proc/1/ns/net` stands for.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { device: meta.dev(), inode: meta.ino() })
    }
}

/// A process as the lab sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: Identity,
    pub(crate) net: Option<NamespaceId>,
    pub(crate) mnt: Option<NamespaceId>,
    /// Value of [`MARKER`] in its environment.
    pub(crate) marker: Option<String>,
    pub(crate) arguments: Vec<String>,
}

/// Every process that runs now, except this one and zombies.
pub(crate) fn scan() -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(look)
        .collect()
}

fn look(pid: u32) -> Option<Seen> {
    let id = Identity::of(pid)?;
    let strings = |file: &str| -> Vec<String> {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes
            .split(|b| *b == 0)
            .filter(|s| !s.is_empty())
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect()
    };
    let marker = strings("environ")
        .into_iter()
        .find_map(|var| Some(var.strip_prefix(MARKER)?.strip_prefix('=')?.to_owned()));
    Some(Seen {
        id,
        net: NamespaceId::of(&format!("/proc/{pid}/ns/net")),
        mnt: NamespaceId::of(&format!("/proc/{pid}/ns/mnt")),
        marker,
        arguments: strings("cmdline"),
    })
}

/// The control groups of a process: hierarchy's controllers to path, as in
/// `/proc/PID/cgroup`.
pub(crate) fn cgroups(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_start_time_is_read_behind_any_name() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sleep", "a) S 1", "((", "x y z"] {
            assert_eq!(parse_stat(&format!("12 ({name}) S {tail}")), Some(4711), "{name}");
            assert_eq!(parse_stat(&format!("12 ({name}) Z {tail}")), None, "{name}");
        }
        for bad in ["", "12", "12 (a", "12 (a) S 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_process_is_found_signalled_and_gone_by_identity() {
        let mut child =
            Command::new("sleep").arg("60").env(MARKER, "the-test-of-identity").spawn().unwrap();
        let seen = loop {
            // Between fork and exec the child still looks like its parent.
            let found = scan().into_iter().find(|s| s.id.pid == child.id()).unwrap();
            if found.arguments.first().is_some_and(|a| a == "sleep") {
                break found;
            }
        };
        assert_eq!(seen.marker.as_deref(), Some("the-test-of-identity"));
        assert_eq!(seen.net, NamespaceId::of("/proc/self/ns/net"));
        let other = Identity { started: seen.id.started + 1, ..seen.id };
        assert!(!other.signal(Signal::KILL).unwrap(), "another process with this pid");
        assert!(seen.id.alive());
        assert!(seen.id.signal(Signal::KILL).unwrap());
        assert!(seen.id.wait_gone(Duration::from_secs(5)), "a zombie counts as gone");
        child.wait().unwrap();
        assert!(!seen.id.signal(Signal::KILL).unwrap());
    }
}
