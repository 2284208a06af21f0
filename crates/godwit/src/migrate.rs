//! `godwit migrate`: moves a VM, shows how it goes, tells how it ended.

mod display;
mod progress;
mod report;
mod watch;

use std::time::Duration;

use api::ClientError;
use api::body::MigrateRequest;
use types::{HostId, Outcome, VmName};

use crate::attempt;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::span;

/// A move that lasts longer than this goes on without the command.
const TIMEOUT: &str = "1h";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  godwit migrate web01\n  godwit migrate web01 --to host-b -o json"
)]
pub(crate) struct Args {
    /// The VM, by name or UUID.
    vm: VmName,
    /// Where to; chosen by room when absent.
    #[arg(long, value_name = "HOST")]
    to: Option<HostId>,
    /// Compare memory and registers of both sides at the switchover (costs blackout).
    #[arg(long)]
    verify: bool,
    /// Longest blackout allowed, in milliseconds [default: 300].
    #[arg(long, value_name = "MS")]
    blackout_budget: Option<u64>,
    /// Only begin; print the attempt and do not wait.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the end.
    #[arg(long, value_parser = span::parse, default_value = TIMEOUT, value_name = "SPAN")]
    timeout: Duration,
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
    let begun = match client.migrate(&args.vm, &request).await {
        Ok(view) => view,
        Err(error) => return Err(refuse(error, &args.vm, &request, output)),
    };
    if args.no_wait {
        return output.result(&begun.report, |_| attempt::table(&begun));
    }
    let report = watch::until_end(&client, begun, args.timeout, output).await?;
    // The result comes in any case; the exit code says what it is.
    match report.outcome {
        Some(Outcome::Completed) => output.result(&report, report::sentence),
        _ => {
            if output.is_json() {
                output.result(&report, report::sentence)?;
            }
            Err(report::failure(&report))
        }
    }
}

/// What the controller did not begin; in JSON that is a result like any other.
fn refuse(error: ClientError, vm: &VmName, request: &MigrateRequest, output: &Output) -> Failure {
    if let ClientError::Problem(problem) = &error
        && output.is_json()
        && problem.code.status() < 500
    {
        let refusal = report::Refusal::new(vm, request.to.as_ref(), problem);
        if let Err(failure) = output.result(&refusal, |_| String::new()) {
            return failure;
        }
    }
    error.into()
}
