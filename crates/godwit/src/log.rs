//! Logs of the fleet's programs: plain lines on standard error, RFC 3339.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins to log; `GODWIT_LOG` is `error`, `warn`, `info` (the default), `debug` or `trace`.
pub(crate) fn begin(program: &'static str) {
    let level = std::env::var("GODWIT_LOG").ok().and_then(|level| level.parse().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(io::stderr)
        .with_filter(level.unwrap_or(LevelFilter::INFO));
    tracing_subscriber::registry().with(lines).with(lab::points::layer(program)).init();
}
