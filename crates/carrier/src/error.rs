//! Why a carrier could not do its work.

use std::io;

/// Errors of a carrier. The text goes to the agent and into the attempt's record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CarrierError {
    /// The configuration is unusable.
    #[error("carrier's configuration: {0}")]
    Config(String),
    /// The control socket cannot be made.
    #[error("carrier's control socket: {0}")]
    Control(String),
    /// The other carrier cannot be reached or is not who it should be.
    #[error("{0}")]
    Peer(String),
    /// The connection to the other carrier broke.
    #[error("the connection to {peer} broke: {why}")]
    Connection {
        /// The other host.
        peer: String,
        /// Why.
        why: String,
    },
    /// The other carrier gave up.
    #[error("{why} (told by {peer})")]
    PeerFailed {
        /// The other host.
        peer: String,
        /// What it says.
        why: String,
    },
    /// QEMU's side of the stream broke.
    #[error("{0}")]
    Qemu(String),
    /// The stream, or what the other carrier made of it, is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The memory file cannot be written.
    #[error("the memory file cannot be written: {0}")]
    Memory(String),
    /// The agent ended the carrier.
    #[error("ended by the agent")]
    Ended,
}

impl CarrierError {
    pub(crate) fn invalid(what: impl ToString) -> Self {
        Self::Invalid(what.to_string())
    }

    pub(crate) fn connection(peer: &str, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "nothing was heard or could be sent for too long".to_owned()
            }
            io::ErrorKind::UnexpectedEof => "it was closed".to_owned(),
            _ => error.to_string(),
        };
        Self::Connection { peer: peer.to_owned(), why }
    }
}

/// What the other side is told of a failure.
pub(crate) fn cut(error: &CarrierError) -> Vec<u8> {
    let mut text = match error {
        CarrierError::Ended => b"the other side's agent ended the attempt".to_vec(),
        error => error.to_string().into_bytes(),
    };
    text.truncate(wire::MAX_NOTE);
    text
}
