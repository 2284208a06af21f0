//! The receiving end of a stream: order, the seal, and what has been applied.

use crate::{Header, Kind, SessionError};

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
        if !header.kind.is_numbered() {
            // It concerns the link; what was to come before it may have been dropped.
            return match header.sequence {
                0 => Ok(()),
                _ => Err(SessionError::Numbered(header.kind)),
            };
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

    /// The next frame that this end can accept.
    pub fn due(&self) -> u64 {
        self.last + 1
    }

    /// Everything accepted so far has been applied: what to acknowledge, and what a new
    /// link goes on from.
    pub fn applied(&self) -> Acknowledgement {
        Acknowledgement(self.last)
    }
}
