//! Frames: a fixed header and a payload of known, bounded length.

/// Bytes of a header: kind, stream, two of zero, length (be32), sequence (be64).
pub const HEADER: usize = 16;
/// Longest payload: a full batch of raw pages and its head.
pub const MAX_PAYLOAD: usize = pages::MAX_HEAD + pages::MAX_BODY;
/// Longest list of blocks in bytes.
pub const MAX_PLACED: usize = 64 << 10;
/// Longest note in bytes.
pub const MAX_NOTE: usize = 4096;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of QEMU's stream that travel as they are, before the seal.
    Verbatim,
    /// A batch of pages: head, body.
    Pages,
    /// Every page has been sent.
    Seal,
    /// Bytes of QEMU's stream after the seal, or of a stream nobody looks into.
    Tail,
    /// QEMU has closed its stream.
    End,
    /// How memory travels (one byte), and why (text).
    Mode,
    /// Text for the other side's agent.
    Note,
    /// Asks for a `Pong` with the same payload.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// What has been applied so far.
    Acknowledge,
    /// Bytes of QEMU's return path.
    Return,
    /// QEMU has closed its return path.
    ReturnEnd,
    /// The sender gives up; the payload says why (text).
    Fail,
    /// Hashes of pages that the destination holds already.
    Index,
    /// All of them have been sent.
    IndexEnd,
    /// From the destination: the names of the blocks whose pages are placed, each a byte of
    /// length and text. Only of those something may be told by what is there.
    Placed,
    /// From the source: asks for fingerprints of pages.
    Ask,
    /// From the destination: the fingerprints, of as many pages as were asked for.
    Prints,
}

const KINDS: [Kind; 18] = [
    Kind::Verbatim,
    Kind::Pages,
    Kind::Seal,
    Kind::Tail,
    Kind::End,
    Kind::Mode,
    Kind::Note,
    Kind::Ping,
    Kind::Pong,
    Kind::Acknowledge,
    Kind::Return,
    Kind::ReturnEnd,
    Kind::Fail,
    Kind::Index,
    Kind::IndexEnd,
    Kind::Placed,
    Kind::Ask,
    Kind::Prints,
];

impl Kind {
    fn code(self) -> u8 {
        // The table has fewer than 256 entries and holds every kind.
        KINDS.iter().position(|k| *k == self).unwrap_or(0) as u8 + 1
    }

    fn of(code: u8) -> Option<Self> {
        KINDS.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Whether frames of this kind have a place in their stream: they arrive exactly
    /// once and in order, and are sent again on a new link. The others concern the
    /// link they travel on, and are forgotten with it.
    pub fn is_numbered(self) -> bool {
        !matches!(self, Self::Ping | Self::Pong | Self::Acknowledge | Self::Fail)
    }

    /// Longest payload of a frame of this kind.
    pub fn longest(self) -> usize {
        match self {
            Self::Seal | Self::End | Self::ReturnEnd | Self::IndexEnd => 8,
            Self::Ping | Self::Pong => 8,
            Self::Acknowledge => 16,
            Self::Note | Self::Fail | Self::Mode => MAX_NOTE,
            Self::Placed => MAX_PLACED,
            Self::Ask => pages::MAX_HEAD,
            Self::Prints => pages::MAX_PAGES * pages::PRINTS,
            Self::Verbatim | Self::Pages | Self::Tail | Self::Return | Self::Index => MAX_PAYLOAD,
        }
    }
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The stream it belongs to.
    pub stream: u8,
    /// Length of the payload in bytes.
    pub length: u32,
    /// Its place in its stream, from 1; 0 if its kind is not numbered.
    pub sequence: u64,
}

/// A frame, its payload borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// `header.length` bytes.
    pub payload: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind this version does not know.
    #[error("the other carrier sent a frame of unknown kind {0}")]
    Kind(u8),
    /// Longer than its kind allows.
    #[error("the other carrier sent a {kind:?} frame of {length} bytes, more than its kind allows")]
    Length {
        /// The kind.
        kind: Kind,
        /// The length given.
        length: u32,
    },
    /// Bytes that must be zero are not.
    #[error("the other carrier sent a frame with reserved bits set")]
    Reserved,
}

impl Header {
    /// A header for a payload of `length` bytes, which must fit the kind.
    pub fn new(kind: Kind, stream: u8, length: usize, sequence: u64) -> Self {
        debug_assert!(length <= kind.longest(), "{kind:?} {length}");
        Self { kind, stream, length: length as u32, sequence }
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind.code();
        bytes[1] = self.stream;
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// Unknown kind, a length beyond the kind's, reserved bits.
    pub fn read(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        let [kind, stream, r0, r1, l0, l1, l2, l3, sequence @ ..] = *bytes;
        if [r0, r1] != [0, 0] {
            return Err(FrameError::Reserved);
        }
        let kind = Kind::of(kind).ok_or(FrameError::Kind(kind))?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > kind.longest() {
            return Err(FrameError::Length { kind, length });
        }
        Ok(Self { kind, stream, length, sequence: u64::from_be_bytes(sequence) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_survives() {
        for kind in KINDS {
            let header = Header::new(kind, 3, kind.longest(), u64::MAX - 1);
            assert_eq!(Header::read(&header.to_bytes()), Ok(header));
            let mut long = header;
            long.length += 1;
            assert!(matches!(Header::read(&long.to_bytes()), Err(FrameError::Length { .. })));
        }
        let mut reserved = Header::new(Kind::Ping, 0, 8, 1).to_bytes();
        reserved[2] = 1;
        assert_eq!(Header::read(&reserved), Err(FrameError::Reserved));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: [u8; HEADER]) {
            if let Ok(header) = Header::read(&bytes) {
                prop_assert!(header.length as usize <= MAX_PAYLOAD);
                prop_assert_eq!(header.to_bytes(), bytes);
            }
        }
    }
}
