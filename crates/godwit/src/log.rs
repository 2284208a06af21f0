//! Logs of the fleet's programs: plain lines on standard error, RFC 3339.

use std::io;

use tracing::level_filters::LevelFilter;

/// Begins to log; `GODWIT_LOG` is `error`, `warn`, `info` (the default), `debug` or `trace`.
pub(crate) fn begin() {
    let level = std::env::var("GODWIT_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}
