//! Why a stream is refused.

use thiserror::Error;

/// What is wrong with a stream. Offsets are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The first bytes are not QEMU's.
    #[error("not a QEMU migration stream of version 3 (magic {magic:#010x}, version {version})")]
    NotAStream {
        /// First word.
        magic: u32,
        /// Second word.
        version: u32,
    },
    /// The configuration section breaks its bounds.
    #[error("configuration section: {0}")]
    Configuration(String),
    /// A record type that cannot stand here.
    #[error("record type {0:#04x} where a section or a command was expected")]
    RecordType(u8),
    /// Device state or the stream's end before memory is complete.
    #[error("the stream ends (record type {0:#04x}) before memory is complete")]
    EarlyEnd(u8),
    /// Post-copy, COLO or recovery was announced.
    #[error("command {0} belongs to post-copy or COLO; migrate without these capabilities")]
    Postcopy(u16),
    /// A command with a length that does not fit it.
    #[error("command {command} with {length} bytes of data")]
    CommandLength {
        /// Number of the command.
        command: u16,
        /// Length it claims.
        length: u16,
    },
    /// Something not understood came when pages had already been given out.
    #[error("{0}, after pages were taken out; only an opaque transfer can carry such a VM")]
    LateUnknown(String),
    /// A section began twice or a part names a section that never began.
    #[error("section {id}: {what}")]
    Section {
        /// Id of the section.
        id: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The footer is missing or names another section.
    #[error("section {id} is not closed by its footer (found type {found:#04x})")]
    Footer {
        /// Id of the open section.
        id: u32,
        /// Type byte found.
        found: u8,
    },
    /// The list of blocks breaks a bound or contradicts itself.
    #[error("list of RAM blocks: {0}")]
    Blocks(String),
    /// A ram record with flags that cannot occur, or occurs in the wrong part.
    #[error("ram record with flags {flags:#05x}: {what}")]
    RamRecord {
        /// The flags.
        flags: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A page of a block that was not listed.
    #[error("page of unknown block {0:?}")]
    UnknownBlock(String),
    /// A page beyond its block's end.
    #[error("page at offset {offset:#x} of block {block:?}, which is {length:#x} bytes long")]
    BeyondBlock {
        /// Name of the block.
        block: String,
        /// Offset in the block.
        offset: u64,
        /// Length of the block.
        length: u64,
    },
    /// A page record of a block whose pages are placed directly.
    #[error("page record of block {0:?}, whose pages must not be in the stream")]
    ForbiddenPage(String),
}

/// Why a record was not read to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The input must hold this many bytes.
    Short(usize),
    /// The stream is refused.
    Bad(DecodeError),
    /// Not understood.
    Unknown(String),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Bad(error)
    }
}

/// A name from the stream, for messages: bounded by its format, safe to print.
pub(crate) fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
