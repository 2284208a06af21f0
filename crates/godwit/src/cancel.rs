//! `godwit cancel`: gives up a migration.

use types::{MigrationReport, VmName};

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
    output.result(&view, |view| {
        let MigrationReport { vm, from, attempt, .. } = &view.report;
        format!(
            "{vm} is asked to stay on {from}; `godwit attempt show {attempt}` tells how it ends\n"
        )
    })
}
