//! `godwit attempt`: migrations, under way or over.

use api::body::AttemptView;
use clap::Subcommand;
use types::{AttemptId, Bytes, MigrationReport};

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::span;
use crate::table::{fields, or_dash};
use crate::watch::Watch;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a migration.
    #[command(after_help = "Example:\n  godwit attempt show 01890a5d-ac96-774b-bcce-b302099a8057")]
    Show {
        /// Its id, as `migrate --no-wait` and `audit history` tell it.
        id: AttemptId,
        #[command(flatten)]
        connect: Connect,
        #[command(flatten)]
        watch: Watch,
    },
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let Command::Show { id, connect, watch } = command;
    let client = connect.client()?;
    let show = |view: &AttemptView| output.render(view, table);
    watch.show(output, async || client.attempt(id).await, show).await
}

/// An attempt for people.
pub(crate) fn table(view: &AttemptView) -> String {
    let report = &view.report;
    let seconds = |seconds: Option<f64>| or_dash(seconds.map(span::show));
    let mut lines = vec![
        ("attempt", report.attempt.to_string()),
        ("vm", report.vm.to_string()),
        ("from", report.from.to_string()),
        ("to", report.to.to_string()),
        ("phase", view.phase.to_string()),
        ("outcome", or_dash(report.outcome)),
    ];
    lines.extend(report.reason.clone().map(|reason| ("reason", reason)));
    lines.extend([
        ("mode", or_dash(report.mode)),
        ("total", seconds(report.total_seconds)),
        ("blackout", seconds(report.blackout_seconds)),
        ("round trip", seconds(report.round_trip_seconds)),
        ("rounds", report.rounds.to_string()),
        ("memory", Bytes(report.memory_bytes).to_string()),
        ("sent", Bytes(report.sent_bytes).to_string()),
        ("pages", pages(report)),
    ]);
    if let Some(equal) = report.state_equal {
        lines.push(("state equal", if equal { "yes" } else { "NO" }.to_owned()));
    }
    if let Some(progress) = &view.progress {
        lines.push(("remaining", Bytes(progress.remaining_bytes).to_string()));
        lines.push(("rate", format!("{}/s", Bytes(progress.rate_bytes_per_second))));
        lines.push(("dirtied", format!("{}/s", Bytes(progress.dirty_bytes_per_second))));
    }
    fields(&lines)
}

fn pages(report: &MigrationReport) -> String {
    let pages = &report.pages;
    let kinds = [
        ("zero", pages.zero),
        ("present", pages.present),
        ("delta", pages.delta),
        ("compressed", pages.compressed),
        ("raw", pages.raw),
    ];
    kinds.map(|(kind, count)| format!("{count} {kind}")).join(", ")
}
