//! The fleet's programs: they run until SIGTERM or SIGINT, and log to standard error.

pub(crate) mod agent;
pub(crate) mod carrier;
pub(crate) mod controller;

use std::fmt::Display;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{FAILED, Failure};

/// For what is still being done when the program is told to end.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a program until it ends or is told to. VMs and migrations live on.
fn until_told<E: Display>(
    name: &str,
    program: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    let failed = |e: &dyn Display| Failure::new(FAILED, format!("the {name} ended: {e}"));
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| failed(&e))?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed(&e))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| failed(&e))?;
        tokio::select! {
            ended = program => ended.map_err(|e| failed(&e)),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    if ended.is_ok() {
        tracing::info!("the {name} ends");
    }
    runtime.shutdown_timeout(GRACE);
    ended
}
