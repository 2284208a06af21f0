//! One process per migration and side, in the VM's own scope.
//!
//! The source's carrier reads QEMU's stream, takes the pages out and sends them;
//! the destination's writes them straight into the VM's memory file and gives
//! the rest of the stream to its QEMU. Everything between the two is TLS.
//!
//! ```text
//! QEMU ─► reader ─► outbox ─► sender ═TLS forward═► receiver ─► memory file, QEMU
//! QEMU ◄─────────── backward ◄═TLS backward═ sender ◄─ outbox ◄─ return path
//! ```
//!
//! A connection may break: what is not acknowledged is kept and sent again on the
//! next one (`link`, `outbox`), and QEMU notices nothing.
//!
//! Threads, not tasks: a carrier is a handful of loops that block on one thing
//! each. A carrier outlives its agent and is bounded in time without one.

mod control;
mod destination;
mod ending;
mod error;
mod flow;
mod link;
mod memory;
mod net;
mod outbox;
mod placement;
mod return_path;
mod source;
#[cfg(test)]
mod tests;

// The tests' support is shared with those that see the crate from outside.
#[cfg(test)]
extern crate self as carrier;

use std::io::{self, BufRead, Read};

use types::{CarrierConfig, CarrierSide};

pub use error::CarrierError;

use crate::control::Control;

/// A configuration is a few KiB.
const LONGEST_CONFIG: u64 = 1 << 20;

/// Reads a configuration as one line of JSON from standard input, then [`run`]s.
///
/// # Errors
/// The configuration cannot be read, or what [`run`] returns.
pub fn main_from_stdin() -> Result<(), CarrierError> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .take(LONGEST_CONFIG)
        .read_line(&mut line)
        .map_err(|e| CarrierError::Config(e.to_string()))?;
    let config = serde_json::from_str(&line).map_err(|e| CarrierError::Config(e.to_string()))?;
    run(&config)
}

/// Serves one side of one attempt until everything is delivered, something
/// fails, or the agent ends it. The agent is told before this returns.
///
/// # Errors
/// The control socket cannot be made, or what kept the attempt from completing.
pub fn run(config: &CarrierConfig) -> Result<(), CarrierError> {
    let control = Control::listen(&config.control)?;
    let result = net::check_secret(config).and_then(|()| match &config.side {
        CarrierSide::Source { connect, opaque, recheck, outage, force } => {
            let (opaque, outage, force) = (*opaque, *outage, *force);
            let settings = source::Settings { address: connect, opaque, recheck, outage, force };
            source::run(config, &settings, &control)
        }
        CarrierSide::Destination { listen, ports, blocks, image } => {
            destination::run(config, listen, *ports, (blocks, *image), &control)
        }
    });
    match &result {
        Ok(()) => {}
        Err(CarrierError::Ended) => return Ok(()),
        Err(error) => {
            tracing::error!(%error, "carrier failed");
            control.failed(error);
        }
    }
    control.linger(result.is_ok());
    result
}
