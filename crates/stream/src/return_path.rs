//! The return path: what the destination's QEMU tells the source's.

use thiserror::Error;

use crate::cursor::Cursor;
use crate::error::Stop;

/// A message of the return path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnMessage {
    /// The destination has loaded everything (0) or failed (anything else).
    Shut(u32),
    /// Answer to the ping of this number.
    Pong(u32),
    /// The destination is ready for the switchover.
    SwitchoverAck,
}

impl ReturnMessage {
    /// The message as it is on the wire.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, data): (u16, Option<u32>) = match self {
            Self::Shut(value) => (1, Some(value)),
            Self::Pong(value) => (2, Some(value)),
            Self::SwitchoverAck => (7, None),
        };
        let length: u16 = if data.is_some() { 4 } else { 0 };
        let mut bytes = Vec::with_capacity(8);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        if let Some(value) = data {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        bytes
    }
}

/// What is wrong with a return path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReturnError {
    /// A message that belongs to post-copy, or an unknown one.
    #[error("return path message {kind} with {length} bytes was not asked for")]
    Unexpected {
        /// Type of the message.
        kind: u16,
        /// Length it claims.
        length: u16,
    },
    /// Something came after SHUT, which is the last message.
    #[error("return path goes on after its last message")]
    AfterShut,
}

/// What came of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnStep {
    /// Nothing was consumed; call again when the input holds this many bytes
    /// (at most 8).
    More(usize),
    /// A message, and how many bytes of the input it took.
    Message(usize, ReturnMessage),
}

/// Pull parser of the return path.
#[derive(Debug, Clone, Default)]
pub struct ReturnPath {
    shut: bool,
}

impl ReturnPath {
    /// A parser at the start of the return path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next message off the front of `input`.
    ///
    /// # Errors
    /// [`ReturnError`] for anything a pre-copy migration does not send.
    pub fn next(&mut self, input: &[u8]) -> Result<ReturnStep, ReturnError> {
        if self.shut && !input.is_empty() {
            return Err(ReturnError::AfterShut);
        }
        let mut c = Cursor::new(input);
        let message = match message(&mut c) {
            Ok(message) => message?,
            Err(needed) => return Ok(ReturnStep::More(needed)),
        };
        self.shut = matches!(message, ReturnMessage::Shut(_));
        Ok(ReturnStep::Message(c.at(), message))
    }
}

/// Outer error: bytes needed.
fn message(c: &mut Cursor<'_>) -> Result<Result<ReturnMessage, ReturnError>, usize> {
    let needed = |stop| if let Stop::Short(n) = stop { n } else { 0 };
    let kind = c.u16().map_err(needed)?;
    let length = c.u16().map_err(needed)?;
    Ok(match (kind, length) {
        (1, 4) => Ok(ReturnMessage::Shut(c.u32().map_err(needed)?)),
        (2, 4) => Ok(ReturnMessage::Pong(c.u32().map_err(needed)?)),
        (7, 0) => Ok(ReturnMessage::SwitchoverAck),
        _ => Err(ReturnError::Unexpected { kind, length }),
    })
}
