//! What a move costs: bytes on the link, seconds of processors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use lab::Identity;

/// Time between two looks at the processes that are known: what a process uses
/// after the last look before its end is not seen.
const LOOK: Duration = Duration::from_millis(10);
/// Unit of `/proc/PID/stat` on x86 (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// Looks between two searches for new processes.
const SEARCH: u32 = 20;

/// Measures the hosts' carriers and QEMUs and a host's link from its start on.
#[derive(Debug)]
pub(super) struct Meter {
    dir: PathBuf,
    host: String,
    wire: u64,
    used: Arc<Mutex<Used>>,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

/// What was used since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Bytes on the host's link, both ways.
    pub(super) wire_bytes: u64,
    /// Seconds of processors, of all carriers and QEMUs of both hosts.
    pub(super) cpu_seconds: f64,
    /// Most anonymous memory that one carrier had.
    pub(super) carrier_bytes: u64,
}

#[derive(Debug, Default)]
struct Used {
    /// Clock ticks of each process: when first seen, and last.
    ticks: BTreeMap<Identity, (u64, u64)>,
    carriers: BTreeMap<Identity, u64>,
}

impl Meter {
    /// Begins; `host` is the one whose link is looked at.
    ///
    /// # Errors
    /// The lab does not answer.
    pub(super) fn start(dir: &Path, host: &str) -> Result<Self> {
        let used = Arc::new(Mutex::new(Used::default()));
        let stop = Arc::new(AtomicBool::new(false));
        search(dir, &used, true);
        let watcher = {
            let (dir, used, stop) = (dir.to_owned(), Arc::clone(&used), Arc::clone(&stop));
            std::thread::spawn(move || watch(&dir, &used, &stop))
        };
        let wire = wire(dir, host)?;
        let (dir, host) = (dir.to_owned(), host.to_owned());
        Ok(Self { dir, host, wire, used, stop, watcher: Some(watcher) })
    }

    /// What was used so far.
    ///
    /// # Errors
    /// The lab does not answer.
    pub(super) fn cost(&self) -> Result<Cost> {
        let wire_bytes = wire(&self.dir, &self.host)?.saturating_sub(self.wire);
        look(&self.used);
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks: u64 = used.ticks.values().map(|(first, last)| last - first).sum();
        let cpu_seconds = ticks as f64 / TICKS_PER_SECOND;
        let carrier_bytes = used.carriers.values().copied().max().unwrap_or(0);
        Ok(Cost { wire_bytes, cpu_seconds, carrier_bytes })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

fn wire(dir: &Path, host: &str) -> Result<u64> {
    let counters = lab::counters(dir, host)?;
    Ok(counters.rx_bytes + counters.tx_bytes)
}

fn watch(dir: &Path, used: &Mutex<Used>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        search(dir, used, false);
        for _ in 0..SEARCH {
            std::thread::sleep(LOOK);
            look(used);
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Takes up processes that are new: those of the start with what they have used
/// until then, others from nothing.
fn search(dir: &Path, used: &Mutex<Used>, start: bool) {
    for host in ["host-a", "host-b"] {
        // A host that cannot be looked into now can be the next time.
        let Ok(found) = lab::processes(dir, host) else { continue };
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        for process in found.carriers.iter().chain(&found.qemus) {
            let now = if start { ticks(*process).unwrap_or(0) } else { 0 };
            used.ticks.entry(*process).or_insert((now, now));
        }
        for carrier in found.carriers {
            used.carriers.entry(carrier).or_insert(0);
        }
    }
}

fn look(used: &Mutex<Used>) {
    let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
    for (process, (_, last)) in &mut used.ticks {
        *last = ticks(*process).unwrap_or(*last).max(*last);
    }
    for (carrier, most) in &mut used.carriers {
        *most = anonymous(*carrier).unwrap_or(*most).max(*most);
    }
}

/// Clock ticks that a process has used; `None` when it has ended.
fn ticks(process: Identity) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
    let (used, started) = parse_stat(&stat)?;
    (started == process.started).then_some(used)
}

/// Ticks in user and kernel mode, and the start, of `/proc/PID/stat` (fields 14,
/// 15, 22; the name before them may hold anything).
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

fn anonymous(process: Identity) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 300 21 0 0 20 0 1 0 4711 0 0";
        assert_eq!(parse_stat(stat), Some((321, 4711)));
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(ticks(own).is_some());
        assert!(anonymous(own).is_some_and(|bytes| bytes > 4096));
        assert_eq!(ticks(Identity { started: own.started + 1, ..own }), None);
    }
}
