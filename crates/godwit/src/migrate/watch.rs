//! Follows a migration until it has ended.

use std::time::{Duration, Instant};

use api::Client;
use api::body::AttemptView;
use tokio::time::sleep;
use types::{AttemptId, AttemptPhase, MigrationReport};

use super::display::Display;
use crate::failure::{Failure, TIMED_OUT};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::span;
use crate::wait::passes;

const POLL: Duration = Duration::from_millis(200);
/// For the source's clean-up, once the outcome is known.
const CLEANING: Duration = Duration::from_secs(30);

/// The report of an attempt that has ended. Ctrl-C leaves it to itself.
pub(crate) async fn until_end(
    client: &Client,
    begun: AttemptView,
    timeout: Duration,
    interrupt: Interrupt,
    output: &Output,
) -> Result<MigrationReport, Failure> {
    let MigrationReport { attempt, vm, .. } = begun.report.clone();
    let mut display = Display::new(output);
    let follow = follow(client, begun, timeout, &mut display, output);
    let goes_on = format!("the migration of {vm} goes on");
    let help = later(attempt) + &format!("; `godwit cancel {vm}` gives it up");
    let ended = interrupt.or_detach(follow, goes_on, help).await;
    display.end();
    ended
}

async fn follow(
    client: &Client,
    begun: AttemptView,
    timeout: Duration,
    display: &mut Display,
    output: &Output,
) -> Result<MigrationReport, Failure> {
    let start = Instant::now();
    let attempt = begun.report.attempt;
    let mut view = begun;
    let mut outcome_since = None;
    let mut away = false;
    loop {
        if view.phase == AttemptPhase::Done {
            return Ok(view.report);
        }
        if view.report.outcome.is_some() {
            let since = *outcome_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= CLEANING {
                display.end();
                output.message("the outcome is known, but a host has not cleaned up yet");
                return Ok(view.report);
            }
        }
        display.show(&view, start.elapsed());
        if start.elapsed() >= timeout {
            let span = span::show(timeout.as_secs_f64());
            let message = format!("the migration of {} has not ended after {span}", view.report.vm);
            return Err(Failure::new(TIMED_OUT, message).help(later(attempt)));
        }
        sleep(POLL.min(timeout.saturating_sub(start.elapsed()))).await;
        match client.attempt(attempt).await {
            Ok(newer) => {
                if std::mem::take(&mut away) {
                    display.end();
                    output.message("the controller answers again");
                }
                view = newer;
            }
            Err(error) if passes(&error) && start.elapsed() < timeout => {
                if !std::mem::replace(&mut away, true) {
                    display.end();
                    output.message(&format!("{error}; the migration goes on, waiting"));
                }
            }
            Err(error) => return Err(Failure::from(error).help(later(attempt))),
        }
    }
}

fn later(attempt: AttemptId) -> String {
    format!("it goes on; `godwit attempt show {attempt}` tells how it ends")
}
