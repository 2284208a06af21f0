//! Plans for people.

use types::{MoveState, PlanDocument, PlanRun};

use crate::colour::Tone;
use crate::failure::{Failure, PARTIAL};
use crate::output::Style;
use crate::simulate::describe;
use crate::span;
use crate::table::{Cell, Table, or_dash};

/// A plan that was made.
pub(super) fn document(document: &PlanDocument, style: Style) -> String {
    format!("{}\n\n{}", document.goal, describe(&document.plan, style))
}

/// That a plan leaves VMs where they are.
pub(super) fn blockers(document: &PlanDocument) -> Result<(), Failure> {
    let names: Vec<String> =
        document.plan.blocked.iter().map(|blocked| blocked.vm.to_string()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::new(PARTIAL, format!("cannot move: {}", names.join(", "))))
}

/// A plan that was applied.
pub(super) fn run(run: &PlanRun, style: Style) -> String {
    let mut table = Table::new(["VM", "FROM", "TO", "WAVE", "STATE", "WHY"]);
    for planned in &run.moves {
        let tone = match &planned.state {
            MoveState::Done { .. } => Tone::Good,
            MoveState::Failed { .. } => Tone::Bad,
            MoveState::Skipped { .. } => Tone::Odd,
            MoveState::Waiting | MoveState::Moving { .. } => Tone::Plain,
        };
        let why = match &planned.state {
            MoveState::Failed { why } | MoveState::Skipped { why } => why.clone(),
            _ => String::new(),
        };
        let p = &planned.planned;
        table.row([
            Cell::from(p.vm.to_string()),
            Cell::from(or_dash(p.from.as_ref())),
            Cell::from(p.to.to_string()),
            Cell::from(p.wave.to_string()),
            Cell::new(planned.state.word(), tone),
            Cell::from(why),
        ]);
    }
    let mut text = if run.moves.is_empty() { String::new() } else { table.styled(style) + "\n" };
    for blocked in &run.blocked {
        let why = blocked.refusals.first().and_then(|refusal| {
            refusal.obstacles.first().map(|why| format!("{} {why}", refusal.host))
        });
        text += &format!("{} cannot move: {}\n", blocked.vm, why.unwrap_or_default());
    }
    text + &sentence(run) + "\n"
}

fn sentence(run: &PlanRun) -> String {
    let done = run.moves.iter().filter(|m| matches!(m.state, MoveState::Done { .. })).count();
    let forecast = span::show(run.forecast_seconds);
    match (run.seconds, run.left.len()) {
        (None, _) if run.stopping => format!("{}: stopping, {done} moved", run.goal),
        (None, _) => format!("{}: {done} of {} moved", run.goal, run.moves.len()),
        (Some(seconds), 0) if !run.stopping => format!(
            "{}: complete, {done} moved in {} (forecast: {forecast})",
            run.goal,
            span::show(seconds)
        ),
        (Some(_), left) => format!("{}: over, {done} moved, {left} left", run.goal),
    }
}

/// Plans that were applied.
pub(super) fn runs(runs: &[PlanRun]) -> Table {
    let mut table = Table::new(["PLAN", "GOAL", "BY", "BEGAN", "STATE", "MOVED", "LEFT"]);
    for run in runs {
        let done = run.moves.iter().filter(|m| matches!(m.state, MoveState::Done { .. })).count();
        let (word, tone) = match (run.ended.is_some(), run.complete(), run.stopping) {
            (_, true, _) => ("complete", Tone::Good),
            (true, _, true) => ("stopped", Tone::Odd),
            (true, _, false) => ("partial", Tone::Bad),
            (false, _, true) => ("stopping", Tone::Odd),
            (false, ..) => ("under way", Tone::Plain),
        };
        table.row([
            Cell::from(run.id.to_string()),
            Cell::from(run.goal.to_string()),
            Cell::from(run.by.clone()),
            Cell::from(run.began.clone()),
            Cell::new(word, tone),
            Cell::from(format!("{done}/{}", run.moves.len())),
            Cell::from(run.left.len().to_string()),
        ]);
    }
    table
}
