//! What the other side may do wrong.

use crate::Kind;

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
    /// A number where none is due.
    #[error("a {0:?} frame is numbered")]
    Numbered(Kind),
    /// The other side no longer has what it had acknowledged.
    #[error("the other side has applied {applied} frames and had acknowledged {acknowledged}")]
    Forgotten {
        /// What it says now.
        applied: u64,
        /// What it said before.
        acknowledged: u64,
    },
    /// Acknowledges what was never sent.
    #[error("frame {0} is acknowledged and was never sent")]
    Acknowledged(u64),
    /// A second mode, or one that does not fit what came before.
    #[error("the mode was announced twice, or too late")]
    Mode,
}
