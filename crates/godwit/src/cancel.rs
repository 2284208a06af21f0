//! `godwit cancel`: gives up a migration.

use std::time::{Duration, Instant};

use api::Client;
use api::body::AttemptView;
use tokio::time::sleep;
use types::{AttemptId, AttemptPhase, MigrationReport, Outcome, VmName};

use crate::complete;
use crate::connect::Connect;
use crate::failure::{Failure, REFUSED, TIMED_OUT};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::span;
use crate::wait::{Wait, passes};

const TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  godwit cancel web01\n  godwit cancel web01 --no-wait")]
pub(crate) struct Args {
    /// The VM, by name or UUID.
    #[arg(add = complete::vms())]
    vm: VmName,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let interrupt = Interrupt::catch()?;
    let view = client.cancel(&args.vm).await?;
    let MigrationReport { vm, from, attempt, .. } = view.report.clone();
    if !args.wait.wanted() {
        return output.one(&view, attempt, |_| format!("{vm} is asked to stay on {from}\n"));
    }
    let work = until_done(&client, attempt, args.wait.timeout(TIMEOUT));
    let goes_on = format!("{vm} is still asked to stay on {from}");
    let view = interrupt.or_detach(work, goes_on, later(attempt)).await?;
    ended(&view, output)
}

async fn until_done(
    client: &Client,
    attempt: AttemptId,
    timeout: Duration,
) -> Result<AttemptView, Failure> {
    let begun = Instant::now();
    loop {
        match client.attempt(attempt).await {
            Ok(view) if view.phase == AttemptPhase::Done => return Ok(view),
            Err(error) if !passes(&error) => return Err(error.into()),
            _ => {}
        }
        if begun.elapsed() >= timeout {
            let span = span::show(timeout.as_secs_f64());
            let message = format!("the migration has not ended after {span}");
            return Err(Failure::new(TIMED_OUT, message).help(later(attempt)));
        }
        sleep(POLL).await;
    }
}

/// A migration that completed all the same was not cancelled.
fn ended(view: &AttemptView, output: &Output) -> Result<(), Failure> {
    let MigrationReport { vm, from, to, attempt, outcome, .. } = &view.report;
    if *outcome == Some(Outcome::Completed) {
        let message = format!("{vm} had moved to {to} already");
        let back = format!("migrate it back: `godwit migrate {vm} --to {from}`");
        return Err(Failure::new(REFUSED, message).help(back));
    }
    output.one(view, attempt, |_| format!("{vm} stays on {from}\n"))
}

fn later(attempt: AttemptId) -> String {
    format!("`godwit attempt show {attempt}` tells how it ends")
}
