//! Processes by identity: a pid alone may have become somebody else's.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::VmmError;
use crate::readable::readable;

/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(20);
/// How often is looked where the kernel cannot tell by itself.
const POLL: Duration = Duration::from_millis(50);

/// A process, told apart from a later one with the same pid by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks after boot (field 22 of `/proc/PID/stat`).
    pub(crate) started: u64,
}

impl Identity {
    /// The process that has `pid` now; `None` when none runs.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).map(|started| Self { pid, started })
    }

    /// Whether exactly this process runs still; a zombie does not.
    pub(crate) fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Completes when the process has ended; at once if it has already.
    pub(crate) fn exited(self) -> impl Future<Output = ()> + Send + use<> {
        let handle = self.handle();
        async move {
            // A pidfd becomes readable once, when the process ends.
            let told = match handle {
                Ok(None) => return,
                Ok(Some(handle)) => readable(handle).await.is_ok(),
                Err(_) => false,
            };
            while !told && self.alive() {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Kills the process and waits until it is gone.
    pub(crate) async fn kill(self, what: &'static str) -> Result<(), VmmError> {
        if let Ok(Some(handle)) = self.handle() {
            // It may have ended by itself in between.
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
        let gone = tokio::time::timeout(DYING, self.exited()).await;
        gone.map_err(|_| VmmError::Immortal { what, pid: self.pid })
    }

    /// A handle on exactly this process; `None` when it has ended.
    fn handle(self) -> Result<Option<OwnedFd>, Errno> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The pid cannot change hands while we hold it, so looking now is enough.
            Ok(handle) => Ok(self.alive().then_some(handle)),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The start of a process that runs; `None` for one that has ended.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name stands in parentheses and may contain anything, also parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // Field 22; the state was field 3.
    fields.nth(18)?.parse().ok()
}

/// The process whose arguments (`cmdline`) or environment (`environ`) contain `item`.
pub(crate) fn find(list: &str, item: &[u8]) -> Option<Identity> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        has(pid, list, item).then(|| Identity::of(pid)).flatten()
    })
}

/// Whether the process `pid` has `item` among its arguments or in its environment.
pub(crate) fn has(pid: u32, list: &str, item: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/{list}"))
        .is_ok_and(|text| text.split(|b| *b == 0).any(|part| part == item))
}

/// Reads a pid file: the first word is the pid.
pub(crate) fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["qemu", "a b", "x) S 1 (y", ""] {
            assert_eq!(parse_stat(&format!("7 ({name}) {tail}")), Some(4711), "{name}");
        }
        assert_eq!(parse_stat(&format!("7 (q) Z{}", &tail[1..])), None);
        for broken in ["", "7", "7 (q", "7 (q) S", "7 (q) S 1"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[tokio::test]
    async fn an_ended_child_is_dead_even_unreaped() {
        // The environment can be read a moment after the program has begun to run.
        let item = format!("GODWIT_TEST_PROCESS={}", std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("5")
            .env("GODWIT_TEST_PROCESS", std::process::id().to_string())
            .spawn()
            .unwrap();
        let id = Identity::of(child.id()).unwrap();
        let found = std::iter::repeat_with(|| find("environ", item.as_bytes())).take(1000);
        assert_eq!(found.flatten().next(), Some(id));
        assert!(id.alive());
        id.kill("sleep").await.unwrap();
        assert!(!id.alive());
        id.exited().await;
        id.kill("sleep").await.unwrap();
        child.wait().unwrap();
        // The same pid with another start is somebody else.
        let other = Identity { pid: std::process::id(), started: 1 };
        assert!(!other.alive());
        other.exited().await;
    }
}
