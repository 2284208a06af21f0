//! `godwit migrate`: moves a VM, shows how it goes, tells how it ended.

mod display;
mod dry;
mod progress;
mod report;
mod watch;

use std::time::Duration;

use api::ClientError;
use api::body::MigrateRequest;
use types::{HostId, Outcome, VmName};

use crate::attempt;
use crate::complete;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::wait::Wait;

/// A move that lasts longer than this goes on without the command.
const TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  godwit migrate web01\n  godwit migrate web01 --to host-b -o json\n  godwit migrate web01 --no-wait\n  godwit migrate web01 --dry-run"
)]
pub(crate) struct Args {
    /// The VM, by name or UUID.
    #[arg(add = complete::vms())]
    vm: VmName,
    /// Where to; chosen by room when absent.
    #[arg(long, value_name = "HOST", add = complete::hosts())]
    to: Option<HostId>,
    /// Compare memory and registers of both sides at the switchover (costs blackout).
    #[arg(long)]
    verify: bool,
    /// Longest blackout allowed, in milliseconds [default: 300].
    #[arg(long, value_name = "MS")]
    blackout_budget: Option<u64>,
    /// Touch nothing; show where it would go, what is known of how long, and all that
    /// stands against each host.
    #[arg(long, conflicts_with_all = ["no_wait", "wait", "timeout"])]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let request = MigrateRequest {
        to: args.to,
        verify: args.verify,
        blackout_budget_ms: args.blackout_budget,
    };
    if args.dry_run {
        return dry::run(&client, &args.vm, &request, output).await;
    }
    // From here on Ctrl-C no longer ends the program by itself.
    let interrupt = Interrupt::catch()?;
    let begun = match client.migrate(&args.vm, &request).await {
        Ok(view) => view,
        Err(error) => return Err(refuse(error, &args.vm, &request, output)),
    };
    if !args.wait.wanted() {
        let id = begun.report.attempt;
        return output.one(&begun.report, id, |_| attempt::table(&begun));
    }
    let report =
        watch::until_end(&client, begun, args.wait.timeout(TIMEOUT), interrupt, output).await?;
    // The result comes in any case; the exit code says what it is.
    match report.outcome {
        Some(Outcome::Completed) => output.one(&report, report.attempt, report::sentence),
        _ => {
            if output.is_data() {
                output.result(&report, report::sentence)?;
            }
            Err(report::failure(&report))
        }
    }
}

/// What the controller did not begin; in JSON that is a result like any other.
fn refuse(error: ClientError, vm: &VmName, request: &MigrateRequest, output: &Output) -> Failure {
    if let ClientError::Problem(problem) = &error
        && output.is_data()
        && problem.code.status() < 500
    {
        let refusal = report::Refusal::new(vm, request.to.as_ref(), problem);
        if let Err(failure) = output.result(&refusal, |_| String::new()) {
            return failure;
        }
    }
    error.into()
}
