//! Sees the heartbeats of many guests from outside, as the hosts' QEMUs write them,
//! and trusts nobody's word about where a VM runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::tail::Tail;

/// How often the logs are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What has been seen of one guest. However many hosts write, its counter rises as
/// long as one copy runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The last counter.
    pub(super) counter: u32,
    /// Counters that came twice or went backwards, each in words.
    pub(super) wrong: Vec<String>,
    host: usize,
}

impl Seen {
    /// A line that the guest wrote on a host.
    fn line(&mut self, host: usize, line: &str) {
        let Some(rest) = line.trim_end().strip_prefix("tiny ") else { return };
        if rest.starts_with("BAD") {
            self.wrong.push(format!("the guest says: {rest}"));
        }
        let mut words = rest.split_ascii_whitespace();
        if words.next() == Some("beat")
            && let Some(word) = words.next().filter(|word| word.len() == 8)
            && let Ok(counter) = u32::from_str_radix(word, 16)
        {
            if counter <= self.counter {
                let (last, before) = (self.counter, self.host);
                self.wrong.push(format!(
                    "heartbeat {counter} on host {host} after {last} on host {before}"
                ));
            }
            (self.counter, self.host) = (self.counter.max(counter), host);
        }
    }
}

/// A thread that watches.
#[derive(Debug)]
pub(super) struct Beats {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beats {
    /// Watches the serial logs of each guest, one of each host, from their present
    /// ends on.
    pub(super) fn watch(guests: BTreeMap<String, Vec<PathBuf>>) -> Self {
        let seen: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
        let end: Arc<AtomicBool> = Arc::default();
        let (shared, stop) = (Arc::clone(&seen), Arc::clone(&end));
        let mut logs: Vec<(String, Vec<Tail>)> = guests
            .into_iter()
            .map(|(vm, files)| (vm, files.into_iter().map(Tail::new).collect()))
            .collect();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for (vm, logs) in &mut logs {
                    for (host, log) in logs.iter_mut().enumerate() {
                        let lines = log.lines();
                        let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        let seen = seen.entry(vm.clone()).or_default();
                        lines.iter().for_each(|line| seen.line(host, line));
                    }
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { seen, end, thread: Some(thread) }
    }

    /// What has been seen of a guest.
    pub(super) fn of(&self, vm: &str) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(vm).cloned().unwrap_or_default()
    }

    /// Everything that was wrong.
    pub(super) fn wrong(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().flat_map(|(vm, s)| s.wrong.iter().map(move |w| format!("{vm}: {w}"))).collect()
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_comes_twice_is_seen_wherever_it_comes_from() {
        let wrong = |beats: &[(usize, u32)]| {
            let mut seen = Seen::default();
            for (host, counter) in beats {
                seen.line(*host, &format!("tiny beat {counter:08x} disk 00000001 bad 0"));
            }
            seen.wrong.len()
        };
        assert_eq!(wrong(&[(0, 1), (0, 2), (1, 3), (0, 4)]), 0);
        assert_eq!(wrong(&[(0, 5), (1, 5)]), 1);
        assert_eq!(wrong(&[(0, 5), (0, 4)]), 1);
        let mut seen = Seen::default();
        seen.line(0, "tiny BAD address 00100000");
        assert_eq!(seen.wrong.len(), 1);
    }
}
