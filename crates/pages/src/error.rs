//! Why a batch is refused.

use thiserror::Error;

/// What is wrong with a batch that came from outside.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PageError {
    /// The head ends too early or breaks a bound.
    #[error("head of a batch: {0}")]
    Head(&'static str),
    /// A kind of body this version does not know.
    #[error("batch of unknown kind {0}; the other side is newer or the data is damaged")]
    Kind(u8),
    /// The body does not have the size its head gives.
    #[error("body of {found} bytes where the head gives {expected}")]
    BodySize {
        /// Bytes the head gives.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The body cannot be decompressed to exactly its pages.
    #[error("body does not decompress to {pages} pages: {why}")]
    Decompress {
        /// Pages the head gives.
        pages: usize,
        /// What the decompressor says.
        why: String,
    },
}
