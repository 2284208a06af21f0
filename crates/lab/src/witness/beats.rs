//! The witness of heartbeats: when they came, how long none came, and whether
//! any was lost, repeated or older than one before.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guest::Beat;

use super::watch::Watch;

/// What was heard of one guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BeatReport {
    /// Packets received.
    pub received: u64,
    /// Packets between others that never came, or not yet.
    pub missing: u64,
    /// Packets that were not newer than one before: a guest that went back in
    /// time, or a network that repeats.
    pub regressions: u64,
    /// Times that another boot was heard.
    pub reboots: u64,
    /// Counter of the newest packet.
    pub newest: u64,
    /// Longest time without a packet, between two receipts.
    pub longest_gap: Duration,
    /// When the longest gap began, since the witness started.
    pub gap_began: Duration,
}

/// Judges the heartbeats of one guest.
#[derive(Debug, Default)]
struct Core {
    report: BeatReport,
    boot: u64,
    last: Option<Duration>,
    /// The newest gaps: when each ended, and how long it was.
    gaps: VecDeque<(Duration, Duration)>,
}

impl Core {
    /// A packet that came `now` (since the witness started).
    fn on(&mut self, now: Duration, beat: Beat) {
        let first = self.report.received == 0;
        self.report.received += 1;
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_sub(last);
            if gap > self.report.longest_gap {
                self.report.longest_gap = gap;
                self.report.gap_began = last;
            }
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back((now, gap));
        }
        if !first && beat.boot != self.boot {
            self.report.reboots += 1;
        } else if !first {
            match beat.counter.checked_sub(self.report.newest) {
                Some(0) | None => {
                    self.report.regressions += 1;
                    return;
                }
                Some(step) => {
                    self.report.missing = self.report.missing.saturating_add(step - 1);
                }
            }
        }
        self.boot = beat.boot;
        self.report.newest = beat.counter;
    }

    fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let within = self.gaps.iter().filter(|(ended, gap)| *ended > from && *ended - *gap < to);
        within.map(|(_, gap)| *gap).max().unwrap_or_default()
    }

    fn forget_gaps(&mut self, now: Duration) {
        self.report.longest_gap = Duration::ZERO;
        self.report.gap_began = now;
        self.last = self.last.map(|_| now);
    }
}

/// Gaps that are kept of one guest: some minutes of a quick heartbeat.
const GAPS: usize = 1 << 17;

/// Guests that one witness tells apart.
const GUESTS: usize = 1024;

/// Hears the heartbeats of any number of guests, told apart by address.
#[derive(Debug)]
pub struct BeatWitness {
    guests: Arc<Watch<BTreeMap<IpAddr, Core>>>,
    address: SocketAddr,
    started: Instant,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl BeatWitness {
    /// Listens; in a lab on the outside's address and [`guest::BEAT_PORT`].
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        let (guests, stop) = (Arc::new(Watch::default()), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let reader = {
            let (guests, stop) = (Arc::clone(&guests), Arc::clone(&stop));
            thread::spawn(move || hear(&socket, &guests, &stop, started))
        };
        Ok(Self { guests, address, started, stop, reader: Some(reader) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Time since the witness started: the scale of [`BeatReport::gap_began`].
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What was heard of a guest.
    pub fn report(&self, guest: IpAddr) -> BeatReport {
        self.guests.get().get(&guest).map(|c| c.report).unwrap_or_default()
    }

    /// Waits for `more` further packets of a guest; `false`: not within `limit`.
    pub fn wait_for(&self, guest: IpAddr, more: u64, limit: Duration) -> bool {
        let goal = self.report(guest).received.saturating_add(more);
        self.guests.wait(limit, |g| g.get(&guest).is_some_and(|c| c.report.received >= goal))
    }

    /// The longest gap of which some lay between two moments (see [`Self::now`]);
    /// of a time long ago nothing may be known any more.
    pub fn longest_gap(&self, guest: IpAddr, from: Duration, to: Duration) -> Duration {
        self.guests.get().get(&guest).map(|c| c.longest_gap(from, to)).unwrap_or_default()
    }

    /// Measures the guest's longest gap anew from now on.
    pub fn forget_gaps(&self, guest: IpAddr) {
        let now = self.now();
        self.guests.change(|guests| {
            if let Some(core) = guests.get_mut(&guest) {
                core.forget_gaps(now);
            }
        });
    }
}

impl Drop for BeatWitness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // An empty packet wakes the reader.
        let to = SocketAddr::new(
            if self.address.ip().is_unspecified() {
                [127, 0, 0, 1].into()
            } else {
                self.address.ip()
            },
            self.address.port(),
        );
        let woken = UdpSocket::bind((to.ip(), 0)).and_then(|s| s.send_to(&[], to));
        if let (Ok(_), Some(reader)) = (woken, self.reader.take()) {
            let _ = reader.join();
        }
    }
}

fn hear(
    socket: &UdpSocket,
    guests: &Watch<BTreeMap<IpAddr, Core>>,
    stop: &AtomicBool,
    started: Instant,
) {
    let mut packet = [0; 2 * Beat::LEN];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let now = started.elapsed();
        let Some(beat) = packet.get(..length).and_then(Beat::decode) else { continue };
        guests.change(|guests| {
            if guests.len() < GUESTS || guests.contains_key(&from.ip()) {
                guests.entry(from.ip()).or_default().on(now, beat);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(beats: &[(u64, u64, u64)]) -> BeatReport {
        let mut core = Core::default();
        for &(ms, boot, counter) in beats {
            core.on(Duration::from_millis(ms), Beat { boot, counter, nanos: 0 });
        }
        core.report
    }

    #[test]
    fn gaps_losses_repeats_and_reboots_are_told_apart() {
        let whole = judged(&[(0, 1, 5), (10, 1, 6), (60, 1, 7), (70, 1, 8)]);
        assert_eq!((whole.missing, whole.regressions, whole.reboots), (0, 0, 0));
        assert_eq!((whole.longest_gap.as_millis(), whole.gap_began.as_millis()), (50, 10));
        let lost = judged(&[(0, 1, 5), (10, 1, 9)]);
        assert_eq!((lost.missing, lost.newest), (3, 9));
        let back = judged(&[(0, 1, 5), (10, 1, 6), (20, 1, 6), (30, 1, 3), (40, 1, 7)]);
        assert_eq!((back.regressions, back.missing, back.newest), (2, 0, 7));
        let reboot = judged(&[(0, 1, 5), (10, 2, 0), (20, 2, 1)]);
        assert_eq!((reboot.reboots, reboot.regressions, reboot.newest), (1, 0, 1));
    }

    #[test]
    fn gaps_are_measured_anew_on_request() {
        let mut core = Core::default();
        core.on(Duration::from_millis(0), Beat { boot: 1, counter: 0, nanos: 0 });
        core.on(Duration::from_millis(90), Beat { boot: 1, counter: 1, nanos: 0 });
        core.forget_gaps(Duration::from_millis(100));
        core.on(Duration::from_millis(120), Beat { boot: 1, counter: 2, nanos: 0 });
        assert_eq!(core.report.longest_gap.as_millis(), 20);
        assert_eq!(core.report.gap_began.as_millis(), 100);
    }

    #[test]
    fn the_longest_gap_of_a_time_is_found() {
        let mut core = Core::default();
        for (counter, ms) in (0..).zip([0, 40, 50, 80, 90]) {
            core.on(Duration::from_millis(ms), Beat { boot: 1, counter, nanos: 0 });
        }
        let longest = |from, to| {
            core.longest_gap(Duration::from_millis(from), Duration::from_millis(to)).as_millis()
        };
        assert_eq!([longest(0, 90), longest(40, 90), longest(81, 90)], [40, 30, 10]);
        assert_eq!([longest(39, 45), longest(41, 50), longest(200, 300)], [40, 10, 0]);
    }

    #[test]
    fn real_packets_are_heard_and_strangers_are_not() {
        let witness = BeatWitness::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let guest = UdpSocket::bind("127.0.0.1:0").unwrap();
        guest.send_to(b"not a heartbeat", witness.address()).unwrap();
        for counter in 0..3 {
            let packet = Beat { boot: 9, counter, nanos: 0 }.encode();
            guest.send_to(&packet, witness.address()).unwrap();
        }
        let ip = guest.local_addr().unwrap().ip();
        let limit = Duration::from_secs(10);
        assert!(witness.wait_for(ip, 3 - witness.report(ip).received, limit));
        let report = witness.report(ip);
        assert_eq!((report.received, report.newest, report.missing), (3, 2, 0));
        assert_eq!(witness.report([10, 0, 0, 1].into()), BeatReport::default());
    }
}
