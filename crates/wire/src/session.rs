//! The session's two ends: what is in flight, what has been applied, the seal.

use std::collections::VecDeque;

use crate::{Header, Kind};

/// A breach of the session's rules by the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A frame is missing, repeated or out of order.
    #[error("frame {got} came where {expected} was due")]
    Order {
        /// Due.
        expected: u64,
        /// Came.
        got: u64,
    },
    /// A frame of a stream that does not exist.
    #[error("frame of unknown stream {0}")]
    Stream(u8),
    /// Pages or stream bytes where the seal does not allow them.
    #[error("a {0:?} frame came on the wrong side of the seal")]
    Sealed(Kind),
    /// The seal counts other frames than have come.
    #[error("the seal counts {counted} frames, {applied} were applied")]
    SealCount {
        /// In the seal.
        counted: u64,
        /// Here.
        applied: u64,
    },
    /// Acknowledges what was never sent.
    #[error("frame {0} is acknowledged and was never sent")]
    Acknowledged(u64),
    /// A second mode, or one that does not fit what came before.
    #[error("the mode was announced twice, or too late")]
    Mode,
}

/// The sending end of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    stream: u8,
    /// Last sequence number used.
    last: u64,
    /// Sent and not acknowledged: sequence number and weight in bytes.
    flying: VecDeque<(u64, u64)>,
    in_flight: u64,
}

impl Sender {
    /// The end of stream `stream`.
    pub fn new(stream: u8) -> Self {
        Self { stream, ..Self::default() }
    }

    /// The header of the next frame. `weight` is what it counts as in flight, in bytes.
    pub fn next(&mut self, kind: Kind, length: usize, weight: u64) -> Header {
        self.last += 1;
        if weight > 0 {
            self.flying.push_back((self.last, weight));
            self.in_flight += weight;
        }
        Header::new(kind, self.stream, length, self.last)
    }

    /// Frames sent so far: the payload of a seal.
    pub fn sent(&self) -> u64 {
        self.last
    }

    /// Bytes sent and not yet acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Takes an acknowledgement of everything up to `sequence`; returns the bytes it frees.
    ///
    /// # Errors
    /// Something is acknowledged that was never sent.
    pub fn acknowledged(&mut self, sequence: u64) -> Result<u64, SessionError> {
        if sequence > self.last {
            return Err(SessionError::Acknowledged(sequence));
        }
        let mut freed = 0;
        while let Some(&(at, weight)) = self.flying.front()
            && at <= sequence
        {
            self.flying.pop_front();
            freed += weight;
        }
        self.in_flight -= freed;
        Ok(freed)
    }
}

/// The receiving end of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receiver {
    stream: u8,
    /// Last sequence number accepted.
    last: u64,
    sealed: bool,
    /// The mode has been announced.
    settled: bool,
    /// Pages have come.
    pages: bool,
    /// The stream is carried as it is; it has no pages and no seal.
    opaque: bool,
}

/// What to tell the sending end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement(pub u64);

impl Acknowledgement {
    /// Payload of an `Acknowledge` frame.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads a payload.
    pub fn read(payload: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(payload.try_into().ok()?)))
    }
}

impl Receiver {
    /// The end of stream `stream`.
    pub fn new(stream: u8) -> Self {
        Self { stream, ..Self::default() }
    }

    /// Applies the announcement of the mode; if opaque, bytes are only carried from now on.
    ///
    /// # Errors
    /// It was announced before, or pages have come.
    pub fn mode(&mut self, opaque: bool) -> Result<(), SessionError> {
        if self.settled || self.sealed || self.pages {
            return Err(SessionError::Mode);
        }
        self.settled = true;
        self.opaque = opaque;
        Ok(())
    }

    /// No page is accepted any more.
    pub fn sealed(&self) -> bool {
        self.sealed
    }

    /// Checks a frame before its payload is applied.
    ///
    /// # Errors
    /// The frame breaks the session's rules and must not be applied.
    pub fn accept(&mut self, header: &Header) -> Result<(), SessionError> {
        if header.stream != self.stream {
            return Err(SessionError::Stream(header.stream));
        }
        if header.kind == Kind::Fail {
            // The last word; what was to come before it may have been dropped.
            return Ok(());
        }
        let expected = self.last + 1;
        if header.sequence != expected {
            return Err(SessionError::Order { expected, got: header.sequence });
        }
        let allowed = match header.kind {
            Kind::Pages | Kind::Seal => !self.sealed && !self.opaque,
            Kind::Verbatim => !self.sealed,
            Kind::Tail | Kind::End => self.sealed || self.opaque,
            _ => true,
        };
        if !allowed {
            return Err(SessionError::Sealed(header.kind));
        }
        self.last = expected;
        self.pages |= header.kind == Kind::Pages;
        Ok(())
    }

    /// Applies a seal that counts `counted` frames before it.
    ///
    /// # Errors
    /// Frames are missing.
    pub fn seal(&mut self, counted: u64) -> Result<(), SessionError> {
        let applied = self.last.saturating_sub(1);
        if counted != applied {
            return Err(SessionError::SealCount { counted, applied });
        }
        self.sealed = true;
        Ok(())
    }

    /// Everything accepted so far has been applied.
    pub fn applied(&self) -> Acknowledgement {
        Acknowledgement(self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: Kind, sequence: u64) -> Header {
        Header { kind, stream: 0, length: 0, sequence }
    }

    #[test]
    fn after_the_seal_there_are_no_pages() {
        let mut end = Receiver::new(0);
        end.accept(&header(Kind::Pages, 1)).unwrap();
        assert_eq!(end.accept(&header(Kind::Tail, 2)), Err(SessionError::Sealed(Kind::Tail)));
        end.accept(&header(Kind::Seal, 2)).unwrap();
        assert!(end.clone().seal(2).is_err(), "one too many");
        end.seal(1).unwrap();
        assert!(end.accept(&header(Kind::Pages, 3)).is_err());
        assert!(end.accept(&header(Kind::Verbatim, 3)).is_err());
        end.accept(&header(Kind::Tail, 3)).unwrap();
        end.accept(&header(Kind::Note, 4)).unwrap();
    }

    #[test]
    fn only_what_was_sent_is_acknowledged() {
        let mut end = Sender::new(0);
        end.next(Kind::Pages, 10, 100);
        end.next(Kind::Note, 10, 0);
        end.next(Kind::Pages, 10, 50);
        assert_eq!(end.in_flight(), 150);
        assert_eq!(end.acknowledged(2), Ok(100));
        assert_eq!(end.acknowledged(1), Ok(0), "late and harmless");
        assert_eq!(end.acknowledged(4), Err(SessionError::Acknowledged(4)));
        assert_eq!(end.acknowledged(3), Ok(50));
        assert_eq!(end.in_flight(), 0);
    }

    #[test]
    fn the_mode_is_settled_once_and_before_any_page() {
        let mut end = Receiver::new(0);
        end.mode(false).unwrap();
        assert_eq!(end.mode(true), Err(SessionError::Mode), "twice");
        let mut end = Receiver::new(0);
        end.accept(&header(Kind::Verbatim, 1)).unwrap();
        end.accept(&header(Kind::Pages, 2)).unwrap();
        assert_eq!(end.mode(true), Err(SessionError::Mode), "after a page");
        let mut end = Receiver::new(0);
        end.accept(&header(Kind::Verbatim, 1)).unwrap();
        end.mode(true).unwrap();
        end.accept(&header(Kind::Tail, 2)).unwrap();
        for kind in [Kind::Pages, Kind::Seal] {
            assert_eq!(end.accept(&header(kind, 3)), Err(SessionError::Sealed(kind)));
        }
    }

    #[test]
    fn a_reason_is_heard_though_frames_before_it_were_dropped() {
        let mut end = Receiver::new(0);
        end.accept(&header(Kind::Pages, 1)).unwrap();
        end.accept(&header(Kind::Fail, 7)).unwrap();
        assert_eq!(end.applied(), Acknowledgement(1));
        let other = Header { stream: 1, ..header(Kind::Fail, 2) };
        assert_eq!(end.accept(&other), Err(SessionError::Stream(1)));
    }

    const FORWARD: [Kind; 8] = [
        Kind::Verbatim,
        Kind::Pages,
        Kind::Seal,
        Kind::Tail,
        Kind::End,
        Kind::Mode,
        Kind::Note,
        Kind::Ping,
    ];

    proptest! {
        /// Whatever is sent in whatever order: pages only before the seal, the tail only
        /// after it, and the seal only over everything before it.
        #[test]
        fn the_seal_parts_pages_from_the_tail(
            steps in proptest::collection::vec((0..FORWARD.len(), 0u64..3), 1..60)
        ) {
            let mut end = Receiver::new(0);
            let (mut sequence, mut sealed, mut opaque) = (0, false, false);
            for (kind, off) in steps {
                let kind = FORWARD[kind];
                if end.accept(&header(kind, sequence + 1)).is_err() {
                    continue;
                }
                sequence += 1;
                match kind {
                    Kind::Pages => prop_assert!(!sealed && !opaque),
                    Kind::Verbatim => prop_assert!(!sealed),
                    Kind::Tail | Kind::End => prop_assert!(sealed || opaque),
                    Kind::Seal => {
                        let counted = (sequence - 1).saturating_sub(off);
                        let fine = counted == sequence - 1;
                        prop_assert_eq!(end.seal(counted).is_ok(), fine);
                        if !fine {
                            // The session ends here.
                            return Ok(());
                        }
                        sealed = true;
                    }
                    Kind::Mode => opaque |= end.mode(off == 0).is_ok() && off == 0,
                    _ => {}
                }
                prop_assert_eq!(end.sealed(), sealed);
                prop_assert_eq!(end.applied(), Acknowledgement(sequence));
            }
        }

        /// What is in flight is what was sent and lies beyond the newest acknowledgement.
        #[test]
        fn what_is_in_flight_is_known_to_the_byte(
            steps in proptest::collection::vec((any::<bool>(), 0u64..1000), 1..100)
        ) {
            let mut end = Sender::new(0);
            let (mut weights, mut newest, mut freed) = (Vec::new(), 0, 0);
            for (send, n) in steps {
                if send {
                    let header = end.next(Kind::Pages, 0, n);
                    weights.push(n);
                    prop_assert_eq!(header.sequence, weights.len() as u64, "versions rise");
                } else {
                    let before = end.clone();
                    match end.acknowledged(n) {
                        Ok(bytes) => {
                            prop_assert!(n <= weights.len() as u64);
                            newest = newest.max(n);
                            freed += bytes;
                        }
                        Err(_) => {
                            prop_assert!(n > weights.len() as u64);
                            prop_assert_eq!(&end, &before, "a refusal changes nothing");
                        }
                    }
                }
                let left: u64 = weights[newest as usize..].iter().sum();
                prop_assert_eq!(end.in_flight(), left);
                prop_assert_eq!(freed + left, weights.iter().sum::<u64>());
            }
        }

        /// Frames that are dropped, repeated or swapped are never applied.
        #[test]
        fn the_applied_are_a_prefix_of_the_sent(picks in proptest::collection::vec(0u64..40, 1..200)) {
            let mut sender = Sender::new(0);
            let sent: Vec<Header> = (0..40).map(|_| sender.next(Kind::Pages, 0, 1)).collect();
            let mut receiver = Receiver::new(0);
            let mut applied = Vec::new();
            for pick in picks {
                let header = sent[pick as usize];
                if receiver.accept(&header).is_ok() {
                    applied.push(header.sequence);
                }
            }
            prop_assert!(applied.iter().copied().eq(1..=applied.len() as u64));
            prop_assert_eq!(receiver.applied(), Acknowledgement(applied.len() as u64));
            prop_assert_eq!(sender.acknowledged(receiver.applied().0), Ok(applied.len() as u64));
        }
    }
}
