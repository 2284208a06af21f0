//! `godwit migrate --dry-run`: what a migration would meet.

use api::Client;
use api::body::{MigrateRequest, PreflightView};
use types::{Bytes, VmName};

use crate::colour::Tone;
use crate::failure::Failure;
use crate::output::Output;
use crate::span;
use crate::table::{Cell, Table, fields, or_dash};

pub(super) async fn run(
    client: &Client,
    vm: &VmName,
    request: &MigrateRequest,
    output: &Output,
) -> Result<(), Failure> {
    let view = client.preflight(vm, request).await?;
    output.result(&view, |view| text(view, output))?;
    // The result comes in any case; the exit code says whether it would begin.
    view.refusal.map_or(Ok(()), |problem| Err(problem.into()))
}

fn text(view: &PreflightView, output: &Output) -> String {
    let forecast = &view.forecast;
    let seconds = |seconds: Option<f64>| or_dash(seconds.map(span::show));
    let mut lines = vec![
        ("vm", view.vm.to_string()),
        ("from", or_dash(view.from.as_ref())),
        ("to", or_dash(view.to.as_ref())),
        ("memory", Bytes(forecast.memory_bytes).to_string()),
    ];
    match forecast.attempt {
        Some(attempt) => lines.extend([
            ("last time", attempt.to_string()),
            ("it took", seconds(forecast.total_seconds)),
            ("blackout", seconds(forecast.blackout_seconds)),
            ("sent", or_dash(forecast.sent_bytes.map(Bytes))),
        ]),
        None => lines.push(("forecast", "it has not migrated before".to_owned())),
    }
    let mut text = fields(&lines);
    for problem in &view.refusals {
        text += &format!("refused: {} [{}]\n", problem.detail, problem.code.as_str());
    }
    text + "\n" + &table(view).styled(output.style())
}

fn table(view: &PreflightView) -> Table {
    let mut table = Table::new(["HOST", "TAKES IT", "CODE", "WHY NOT", "WHAT HELPS"]);
    for candidate in &view.hosts {
        let mut name = candidate.host.to_string();
        if candidate.refusals.is_empty() {
            let plain = |text: &str| Cell::from(text.to_owned());
            table.row([
                Cell::from(name),
                Cell::new("yes", Tone::Good),
                plain("-"),
                plain("-"),
                plain("-"),
            ]);
            continue;
        }
        for problem in &candidate.refusals {
            table.row([
                Cell::from(std::mem::take(&mut name)),
                Cell::new("no", Tone::Bad),
                Cell::from(problem.code.as_str().to_owned()),
                Cell::from(problem.detail.clone()),
                Cell::from(problem.remedy.clone().unwrap_or_default()),
            ]);
        }
    }
    table
}
