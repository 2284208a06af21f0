//! What can go wrong between us and QEMU's monitor.

use std::time::Duration;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The monitor's socket cannot be connected.
    #[error("QEMU's monitor {socket}: {source}")]
    Connect {
        /// The socket's path.
        socket: String,
        /// Why.
        source: std::io::Error,
    },
    /// QEMU closed the monitor, usually because it ended.
    #[error("QEMU has closed its monitor")]
    Disconnected,
    /// QEMU refused the command.
    #[error("{command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// No answer in time; QEMU may still do what it was told.
    #[error("{command}: QEMU did not answer within {} s", limit.as_secs_f32())]
    Late {
        /// The command.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// Too many commands wait for QEMU already; this one was not sent.
    #[error("{command}: {waiting} commands wait for QEMU already")]
    Busy {
        /// The command.
        command: String,
        /// How many wait.
        waiting: usize,
    },
    /// What stands at the other end does not speak QMP; the connection is given up.
    #[error("QEMU's monitor: {0}")]
    Garbled(String),
    /// An answer is not what the command promises; the connection is good.
    #[error("{command}: QEMU's answer is not understood: {problem}")]
    Unexpected {
        /// The command.
        command: String,
        /// What is odd about the answer.
        problem: String,
    },
    /// The state asked for has not been reached yet.
    #[error("{0}")]
    NotYet(&'static str),
}

impl QmpError {
    /// The connection is gone; only a new one could help.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Connect { .. } | Self::Garbled(_))
    }

    /// A state that is being waited for.
    pub fn not_yet(what: &'static str) -> Self {
        Self::NotYet(what)
    }
}
