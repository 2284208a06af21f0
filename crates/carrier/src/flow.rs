//! How much may be in flight, from what is seen to arrive. Pure.

use std::time::{Duration, Instant};

/// Before the switchover: what the destination works off in this time, besides
/// what is on the wire, adds to the blackout.
const BACKLOG: Duration = Duration::from_millis(30);
const LEAST: u64 = 1 << 20;
const MOST: u64 = 64 << 20;
/// After it: QEMU writes with its big lock held; it is not made to wait.
const TAIL: u64 = 256 << 20;
/// Time constant of the smoothed rate.
const SMOOTH: f64 = 0.25;

/// The rate at which memory is acknowledged while there is some to acknowledge.
#[derive(Debug)]
pub(crate) struct Flow {
    rate: f64,
    round_trip: Duration,
    /// Since when something has been in flight without a pause.
    busy_since: Option<Instant>,
    acknowledged: u64,
    /// Since when QEMU's tail is taken as fast as it comes.
    tail: Option<Instant>,
    pub(crate) hold: bool,
}

impl Flow {
    pub(crate) fn new(round_trip: Duration) -> Self {
        Self { rate: 0.0, round_trip, busy_since: None, acknowledged: 0, tail: None, hold: false }
    }

    pub(crate) fn window(&self) -> u64 {
        if self.tail.is_some() {
            return TAIL;
        }
        let time = BACKLOG + self.round_trip;
        ((self.rate * time.as_secs_f64()) as u64).clamp(LEAST, MOST)
    }

    /// The VM is stopped: the rest is taken as fast as QEMU writes it.
    pub(crate) fn begin_tail(&mut self, now: Instant) {
        self.tail.get_or_insert(now);
    }

    /// Since when.
    pub(crate) fn tail_since(&self) -> Option<Instant> {
        self.tail
    }

    /// The link broke: the time without one says nothing about its rate.
    pub(crate) fn interrupted(&mut self) {
        self.busy_since = None;
        self.acknowledged = 0;
    }

    /// Bytes a second, smoothed; 0 until known.
    pub(crate) fn rate(&self) -> u64 {
        self.rate as u64
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Keeps the shortest: whatever is longer has waited behind what we sent ourselves,
    /// and a window that grew with it would wait ever longer.
    pub(crate) fn set_round_trip(&mut self, measured: Duration) {
        self.round_trip = self.round_trip.min(measured);
    }

    /// Something was sent while nothing was in flight, or more while there was.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.busy_since.get_or_insert(now);
    }

    /// `bytes` were acknowledged; `left` are still in flight.
    pub(crate) fn acknowledged(&mut self, bytes: u64, left: u64, now: Instant) {
        self.acknowledged += bytes;
        let Some(since) = self.busy_since else { return };
        let busy = now.saturating_duration_since(since).as_secs_f64();
        // A few milliseconds say nothing yet, unless that was all there was.
        if busy < 0.02 && left > 0 {
            return;
        }
        if self.acknowledged > 64 << 10 && busy > 0.0 {
            let seen = self.acknowledged as f64 / busy;
            let share = if self.rate == 0.0 { 1.0 } else { (busy / SMOOTH).clamp(0.05, 0.5) };
            self.rate += (seen - self.rate) * share;
        }
        self.acknowledged = 0;
        self.busy_since = (left > 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_rate_and_its_bounds() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flow = Flow::new(Duration::from_millis(100));
        assert_eq!(flow.window(), LEAST);
        // 100 MB/s for a second.
        flow.sent(at(0));
        for step in 1..=20 {
            flow.acknowledged(5_000_000, 1, at(step * 50));
        }
        assert!((95..=105).contains(&(flow.rate() / 1_000_000)), "{}", flow.rate());
        assert!((12..=14).contains(&(flow.window() / 1_000_000)), "what is on the wire is extra");
        flow.set_round_trip(Duration::from_millis(500));
        assert!((12..=14).contains(&(flow.window() / 1_000_000)), "queues of our own do not count");
        flow.set_round_trip(Duration::ZERO);
        assert!((2..=4).contains(&(flow.window() / 1_000_000)), "{}", flow.window());
        // Nothing to send for long: the rate stays what it was.
        flow.acknowledged(0, 0, at(1001));
        flow.sent(at(60_000));
        flow.acknowledged(1_000_000, 0, at(60_010));
        assert!((90..=110).contains(&(flow.rate() / 1_000_000)), "{}", flow.rate());
        flow.begin_tail(start);
        assert_eq!(flow.window(), TAIL);
    }
}
