//! `--wait`, `--no-wait`, `--timeout`: of every command whose effect takes time.

use std::time::Duration;

use api::ClientError;
use types::Code;

use crate::span;

/// Whether and how long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Wait {
    /// Wait until it has happened (the default).
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Only ask; do not wait.
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// How long to wait at most, such as 90s or 10m; it goes on without the
    /// command [default: 2m; 1h for a migration].
    #[arg(long, value_parser = span::parse, value_name = "SPAN")]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) fn wanted(&self) -> bool {
        self.wait || !self.no_wait
    }

    /// How long.
    pub(crate) fn timeout(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }
}

/// A controller that restarts, or whose store does, comes back.
pub(crate) fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Problem(problem) => problem.code == Code::StoreUnavailable,
        ClientError::Expired { .. } | ClientError::Garbled { .. } => false,
    }
}
