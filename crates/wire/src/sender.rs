//! The sending end of a stream: what is in flight, and what a new link goes on with.

use std::collections::VecDeque;

use crate::{Header, Kind, SessionError};

/// Numbers frames and knows which of them are not acknowledged. Their bytes are
/// the caller's to keep until they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    stream: u8,
    /// Last sequence number used.
    last: u64,
    /// Everything up to this one is applied at the other end.
    acknowledged: u64,
    /// Weights in bytes of the frames from `acknowledged + 1` to `last`.
    flying: VecDeque<u64>,
    in_flight: u64,
}

impl Sender {
    /// The end of stream `stream`.
    pub fn new(stream: u8) -> Self {
        Self { stream, ..Self::default() }
    }

    /// The header of the next frame. `weight` is what it counts as in flight, in bytes.
    /// A kind that is not numbered is not counted.
    pub fn next(&mut self, kind: Kind, length: usize, weight: u64) -> Header {
        if !kind.is_numbered() {
            return Header::new(kind, self.stream, length, 0);
        }
        self.last += 1;
        self.flying.push_back(weight);
        self.in_flight += weight;
        Header::new(kind, self.stream, length, self.last)
    }

    /// Numbered frames so far: the payload of a seal.
    pub fn sent(&self) -> u64 {
        self.last
    }

    /// Everything up to this frame is acknowledged; what follows must be kept.
    pub fn base(&self) -> u64 {
        self.acknowledged
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
        while self.acknowledged < sequence {
            freed += self.flying.pop_front().unwrap_or(0);
            self.acknowledged += 1;
        }
        self.in_flight -= freed;
        Ok(freed)
    }

    /// A new link begins, whose other end has applied everything up to `applied`:
    /// what follows is to be sent again, from [`Self::base`] on. Returns the bytes it frees.
    ///
    /// # Errors
    /// The other end claims what was never sent, or has lost what it had acknowledged.
    pub fn resume(&mut self, applied: u64) -> Result<u64, SessionError> {
        if applied < self.acknowledged {
            let acknowledged = self.acknowledged;
            return Err(SessionError::Forgotten { applied, acknowledged });
        }
        self.acknowledged(applied)
    }
}
