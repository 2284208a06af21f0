//! `godwit cancel`: gives up a migration.

use types::VmName;

use crate::attempt;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  godwit cancel web01")]
pub(crate) struct Args {
    /// The VM, by name or UUID.
    vm: VmName,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let view = args.connect.client()?.cancel(&args.vm).await?;
    output.message(&format!(
        "{} is asked to stay on {}; `godwit attempt show {}` tells how it ends",
        view.report.vm, view.report.from, view.report.attempt
    ));
    output.result(&view, attempt::table)
}
