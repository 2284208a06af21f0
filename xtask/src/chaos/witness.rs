//! Sees the guest's heartbeats from outside, as both hosts' QEMUs write them, and
//! trusts nobody's word about where the VM runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::tail::Tail;

/// How often the logs are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What is wrong with what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Heartbeats came from two hosts in turn.
    Duplicated(String),
    /// The counter went backwards or repeated, or the guest found its memory wrong.
    Stale(String),
}

/// What has been seen since the last [`Witness::begin`].
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// Host and time of the last heartbeat.
    pub(super) last: Option<(usize, Instant)>,
    /// Its counter.
    pub(super) counter: u32,
    /// The hosts that it came from, in order, each once for a stay.
    pub(super) stays: Vec<usize>,
    /// The longest time between two heartbeats.
    pub(super) longest: Duration,
    pub(super) wrong: Vec<Wrong>,
    /// The guest has booted anew and counts from the beginning.
    anew: bool,
    /// A line that the dead guest began is ended by nobody.
    cut: bool,
}

impl Sight {
    /// A heartbeat was written on a host.
    pub(super) fn beat(&mut self, host: usize, counter: u32, at: Instant) {
        if let Some((before, then)) = self.last {
            self.longest = self.longest.max(at.duration_since(then));
            if !self.anew && counter <= self.counter {
                let what = format!(
                    "heartbeat {counter} on host {host} after {} on host {before}",
                    self.counter
                );
                self.wrong.push(if host == before {
                    Wrong::Stale(what)
                } else {
                    Wrong::Duplicated(what)
                });
            }
        }
        if self.stays.last() != Some(&host) {
            if self.stays.contains(&host) {
                let what = format!("heartbeats of host {host} go on after another host's");
                self.wrong.push(Wrong::Duplicated(what));
            }
            self.stays.push(host);
        }
        self.anew = false;
        self.counter = counter;
        self.last = Some((host, at));
    }

    /// A line that the guest wrote.
    fn line(&mut self, host: usize, line: &str, at: Instant) {
        let Some(rest) = line.trim_end().strip_prefix("tiny ") else { return };
        if rest.starts_with("BAD") {
            self.wrong.push(Wrong::Stale(format!("the guest says: {}", line.trim_end())));
        }
        let mut words = rest.split_ascii_whitespace();
        if words.next() == Some("beat")
            && let Some(word) = words.next().filter(|w| w.len() == 8)
            && let Ok(counter) = u32::from_str_radix(word, 16)
        {
            self.beat(host, counter, at);
        }
    }
}

/// A thread that watches.
#[derive(Debug)]
pub(super) struct Witness {
    sight: Arc<Mutex<Sight>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Watches the serial logs, one of each host, from their present ends on.
    pub(super) fn watch(logs: Vec<PathBuf>) -> Self {
        let sight: Arc<Mutex<Sight>> = Arc::default();
        let end: Arc<AtomicBool> = Arc::default();
        let (shared, stop) = (Arc::clone(&sight), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut tails: Vec<Tail> = logs.into_iter().map(Tail::new).collect();
            while !stop.load(Ordering::Relaxed) {
                for (host, tail) in tails.iter_mut().enumerate() {
                    let lines = tail.lines();
                    let now = Instant::now();
                    let mut sight = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    for line in lines {
                        sight.line(host, &line, now);
                    }
                }
                // A line that the guest began on one host it ends on the next.
                let mut sight = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (here, cut) = (sight.last, std::mem::take(&mut sight.cut));
                drop(sight);
                for (host, tail) in tails.iter_mut().enumerate() {
                    if cut || here.is_some_and(|(here, _)| here != host) {
                        tail.forget();
                    }
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { sight, end, thread: Some(thread) }
    }

    fn lock(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new run begins; the counter goes on.
    pub(super) fn begin(&self) {
        let mut sight = self.lock();
        let (last, counter, anew) = (sight.last, sight.counter, sight.anew);
        *sight = Sight { last, counter, anew, ..Sight::default() };
        sight.stays.extend(last.map(|(host, _)| host));
    }

    /// The guest was started anew, because its host died: it counts from the beginning.
    pub(super) fn anew(&self) {
        let mut sight = self.lock();
        *sight = Sight { anew: true, cut: true, ..Sight::default() };
    }

    /// What has been seen.
    pub(super) fn sight(&self) -> Sight {
        self.lock().clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(beats: &[(usize, u32)]) -> Vec<Wrong> {
        let mut sight = Sight::default();
        for (host, counter) in beats {
            sight.line(
                *host,
                &format!("tiny beat {counter:08x} disk 00000001 bad 0"),
                Instant::now(),
            );
        }
        sight.wrong
    }

    #[test]
    fn two_at_once_and_backwards_are_seen() {
        assert_eq!(seen(&[(0, 1), (0, 2), (1, 3), (1, 4)]), []);
        assert!(matches!(*seen(&[(0, 5), (0, 4)]), [Wrong::Stale(_)]));
        assert!(matches!(*seen(&[(0, 5), (1, 4)]), [Wrong::Duplicated(_)]));
        assert!(matches!(*seen(&[(0, 1), (1, 2), (0, 3)]), [Wrong::Duplicated(_)]));
        assert!(matches!(*seen(&[(0, 2), (1, 3), (0, 3)]), [Wrong::Duplicated(_), _]));
        let mut sight = Sight::default();
        sight.line(0, "tiny BAD address 00100000", Instant::now());
        assert!(matches!(*sight.wrong, [Wrong::Stale(_)]));
    }
}
