//! The client of a guest's stream of counters: proves that a connection lives
//! and that no byte of it is lost, repeated or wrong.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::watch::Watch;

/// What a connection has brought so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Bytes received.
    pub bytes: u64,
    /// Bytes that should have come between others that did.
    pub lost_bytes: u64,
    /// Counters that did not rise.
    pub wrong: u64,
    /// Longest time without a byte, between two receipts.
    pub longest_gap: Duration,
    /// Why the connection ended; `None` while it lives.
    pub ended: Option<String>,
}

impl StreamReport {
    /// Whether the connection lives and everything came as it was sent.
    pub fn flawless(&self) -> bool {
        self.ended.is_none() && self.lost_bytes == 0 && self.wrong == 0
    }
}

/// Judges the bytes of one connection.
#[derive(Debug, Default)]
struct Core {
    report: StreamReport,
    /// The next counter.
    next: u64,
    /// A counter of which a part has come.
    part: Vec<u8>,
    last: Option<Duration>,
}

impl Core {
    /// Bytes that came `now` (since any fixed moment).
    fn on(&mut self, now: Duration, bytes: &[u8]) {
        self.report.bytes += bytes.len() as u64;
        if let Some(last) = self.last.replace(now) {
            self.report.longest_gap = self.report.longest_gap.max(now.saturating_sub(last));
        }
        self.part.extend_from_slice(bytes);
        let (counters, rest) = self.part.as_chunks::<8>();
        for counter in counters {
            let counter = u64::from_le_bytes(*counter);
            if counter < self.next {
                self.report.wrong += 1;
            } else {
                let missing = (counter - self.next).saturating_mul(8);
                self.report.lost_bytes = self.report.lost_bytes.saturating_add(missing);
            }
            self.next = counter.wrapping_add(1);
        }
        self.part = rest.to_vec();
    }

    /// Time that has passed since the last byte counts as a gap, too.
    fn report(&self, now: Duration) -> StreamReport {
        let mut report = self.report.clone();
        if let (Some(last), None) = (self.last, &report.ended) {
            report.longest_gap = report.longest_gap.max(now.saturating_sub(last));
        }
        report
    }
}

/// A connection to a guest's stream, read by a thread of its own.
#[derive(Debug)]
pub struct StreamWitness {
    stream: TcpStream,
    core: Arc<Watch<Core>>,
    started: Instant,
    reader: Option<JoinHandle<()>>,
}

impl StreamWitness {
    /// Connects to the guest's port [`guest::SERVE_PORT`].
    ///
    /// # Errors
    /// No connection within `limit`.
    pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        let (core, started) = (Arc::new(Watch::new(Core::default())), Instant::now());
        let reader = {
            let (stream, core) = (stream.try_clone()?, Arc::clone(&core));
            thread::spawn(move || read(stream, &core, started))
        };
        Ok(Self { stream, core, started, reader: Some(reader) })
    }

    /// What has come so far.
    pub fn report(&self) -> StreamReport {
        self.core.get().report(self.started.elapsed())
    }

    /// Waits for `more` further bytes; `false`: they did not come within `limit`,
    /// or the connection ended.
    pub fn wait_for(&self, more: u64, limit: Duration) -> bool {
        let goal = self.core.get().report.bytes.saturating_add(more);
        let done = |c: &Core| c.report.bytes >= goal || c.report.ended.is_some();
        self.core.wait(limit, done) && self.core.get().report.bytes >= goal
    }

    /// Measures the longest gap anew from now on.
    pub fn forget_gaps(&self) {
        let now = self.started.elapsed();
        self.core.change(|core| {
            core.report.longest_gap = Duration::ZERO;
            core.last = core.last.map(|_| now);
        });
    }

    /// Ends the connection and tells what it was like until then.
    pub fn finish(self) -> StreamReport {
        self.report()
    }
}

impl Drop for StreamWitness {
    fn drop(&mut self) {
        // Wakes the reader, also if the guest is silent.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(mut stream: TcpStream, core: &Watch<Core>, started: Instant) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                return core.change(|c| c.report.ended = Some("the guest closed it".into()));
            }
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                core.change(|c| c.on(started.elapsed(), bytes));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return core.change(|c| c.report.ended = Some(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn counters(range: std::ops::Range<u64>) -> Vec<u8> {
        range.flat_map(u64::to_le_bytes).collect()
    }

    fn judged(parts: &[&[u8]]) -> StreamReport {
        let mut core = Core::default();
        for (i, part) in (0u64..).zip(parts) {
            core.on(Duration::from_millis(10 * i), part);
        }
        core.report
    }

    #[test]
    fn pieces_of_any_length_are_one_stream() {
        let all = counters(0..100);
        for length in [1, 3, 8, 11, 800] {
            let parts: Vec<&[u8]> = all.chunks(length).collect();
            let report = judged(&parts);
            assert!(report.flawless(), "{length}: {report:?}");
            assert_eq!(report.bytes, 800);
        }
    }

    #[test]
    fn lost_and_repeated_counters_are_counted() {
        let report = judged(&[&counters(0..10), &counters(13..20)]);
        assert_eq!((report.lost_bytes, report.wrong), (24, 0));
        let report = judged(&[&counters(0..10), &counters(8..12)]);
        assert_eq!((report.lost_bytes, report.wrong), (0, 1));
        let report = judged(&[&counters(0..2), &[0xff; 16]]);
        assert!(!report.flawless());
        // A byte that is missing in the middle moves everything behind it.
        let mut all = counters(0..10);
        all.remove(33);
        assert!(!judged(&[&all]).flawless());
    }

    #[test]
    fn the_longest_gap_is_kept_and_silence_is_one() {
        let mut core = Core::default();
        for ms in [0, 5, 40, 45] {
            core.on(Duration::from_millis(ms), &[]);
        }
        assert_eq!(core.report(Duration::from_millis(50)).longest_gap.as_millis(), 35);
        assert_eq!(core.report(Duration::from_millis(145)).longest_gap.as_millis(), 100);
    }

    #[test]
    fn a_real_connection_is_watched_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let limit = Duration::from_secs(10);
        let witness = StreamWitness::connect(listener.local_addr().unwrap(), limit).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        guest.write_all(&counters(0..1000)).unwrap();
        assert!(witness.wait_for(8000 - witness.report().bytes, limit));
        assert!(witness.report().flawless());
        drop(guest);
        assert!(!witness.wait_for(1, limit));
        let report = witness.finish();
        assert_eq!((report.bytes, report.ended.is_some()), (8000, true));
    }
}
