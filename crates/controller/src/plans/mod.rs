//! Plans: made from the records, compared with them, carried out.

mod carry;
mod describe;
mod document;

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::shell::Shell;

pub(crate) use carry::{fleet, make};
pub(crate) use document::{digest, document, state};

/// How often plans are looked at where nothing changes: hosts come and go without a
/// change of a record.
const TICK: Duration = Duration::from_secs(1);
/// How long a controller that has just begun takes hosts that have not been heard for
/// ones that will be.
const SETTLING: Duration = Duration::from_secs(15);
/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Carries plans out for as long as the controller is there.
pub(crate) fn carry_out(shell: &Shell) {
    let (weak, mut newest) = (shell.downgrade(), shell.newest());
    let began = Instant::now();
    tokio::spawn(async move {
        while let Some(shell) = weak.upgrade() {
            newest.mark_unchanged();
            if let Err(problem) = carry::round(&shell, began.elapsed() < SETTLING).await {
                tracing::warn!(%problem, "plans cannot be carried on");
            }
            drop(shell);
            tokio::time::sleep(PAUSE).await;
            if let Ok(Err(_)) = timeout(TICK, newest.changed()).await {
                return;
            }
        }
    });
}
