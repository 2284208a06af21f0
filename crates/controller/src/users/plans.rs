//! Plans: made, applied, shown, stopped.

use api::body::{Cordon, Nothing, PlanRequest};
use store::Range;
use types::{Code, HostId, MoveState, PlanDocument, PlanGoal, PlanId, PlanRun, Problem, RunMove};
use uuid::Uuid;

use super::hosts::turn_for;
use crate::call::Call;
use crate::core::Note;
use crate::keys;
use crate::plans;
use crate::records::{Records, Scope, parse};
use crate::routes::Plain;
use crate::shell::{Shell, parse_all};

/// Most plans under way at a time.
const MOST: usize = 16;
/// Most plans in a list.
const LISTED: usize = 1000;
/// Things that are told of a drift.
const TOLD: usize = 5;

pub(super) async fn make(
    call: Call<(), PlanRequest, PlanDocument>,
) -> Result<PlanDocument, Problem> {
    let goal = call.body.goal.clone();
    let (fleet, plan) = plans::make(&call.shell, &goal).await?;
    plans::document(goal, &fleet, plan)
}

pub(super) async fn apply(call: Call<(), PlanDocument, PlanRun>) -> Result<PlanRun, Problem> {
    let document = &call.body;
    genuine(document)?;
    if let Some(same) = under_way(&call.shell, &document.goal).await? {
        return Ok(same);
    }
    let fleet = plans::fleet(&call.shell, &document.goal).await?;
    undrifted(document, &plans::state(&fleet)?)?;
    if !call.terms.dry_run {
        cordons(&call.shell, &document.goal, &call.user()).await?;
    }
    let id = PlanId(Uuid::now_v7());
    let began = jiff::Timestamp::now().to_string();
    let waiting = |planned: &types::PlannedMove| RunMove {
        planned: planned.clone(),
        state: MoveState::Waiting,
    };
    let run = PlanRun {
        id,
        goal: document.goal.clone(),
        by: call.user(),
        began,
        ended: None,
        seconds: None,
        forecast_seconds: document.plan.makespan_seconds,
        stopping: false,
        replans: 0,
        moves: document.plan.moves.iter().map(waiting).collect(),
        blocked: document.plan.blocked.clone(),
        left: Vec::new(),
    };
    let user = call.user();
    let decide = move |records: &mut Records| {
        let detail = format!("{}: {} moves; plan {id}", run.goal, run.moves.len());
        records.notes = vec![Note::by(&user, "plan-applied").detail(detail)];
        records.run = Some(run.clone());
        Ok(run.clone())
    };
    call.change(Scope::plan(id), decide).await
}

/// A plan of this version that nobody has changed.
fn genuine(document: &PlanDocument) -> Result<(), Problem> {
    let wrong = |why: String| {
        Problem::new(Code::InvalidRequest, why).remedy("make a plan anew: `godwit plan drain HOST`")
    };
    if document.format != PlanDocument::FORMAT {
        let (got, known) = (document.format, PlanDocument::FORMAT);
        return Err(wrong(format!("format: the plan's is {got}, this version reads {known}")));
    }
    if plans::digest(document)? != document.digest {
        return Err(wrong("digest: the plan is not as it was made".to_owned()));
    }
    Ok(())
}

/// The same goal, which is being carried out already.
async fn under_way(shell: &Shell, goal: &PlanGoal) -> Result<Option<PlanRun>, Problem> {
    let entries = shell.all(keys::UNDER_WAY).await?;
    let ids = entries.iter().filter_map(|entry| keys::tail::<PlanId>(&entry.key));
    let runs = shell.read(ids.map(keys::plan).collect()).await?;
    let runs: Vec<PlanRun> = parse_all(&runs.into_iter().flatten().collect::<Vec<_>>())?;
    let same = |run: &PlanRun| run.goal.to_string() == goal.to_string() && !run.stopping;
    let found = runs.into_iter().find(same);
    if found.is_none() && entries.len() >= MOST {
        return Err(Problem::new(Code::TooMany, format!("{MOST} plans are being carried out"))
            .remedy("wait for one to end, or stop one: `godwit plan ls`"));
    }
    Ok(found)
}

fn undrifted(
    document: &PlanDocument,
    now: &std::collections::BTreeMap<String, String>,
) -> Result<(), Problem> {
    let drift = document.drift(now);
    if drift.is_empty() {
        return Ok(());
    }
    let mut told: Vec<String> = drift.iter().take(TOLD).cloned().collect();
    if let Some(more) = drift.len().checked_sub(TOLD).filter(|n| *n > 0) {
        told.push(format!("and {more} things more"));
    }
    let detail = format!("the fleet is not as it was when the plan was made: {}", told.join("; "));
    Err(Problem::new(Code::PlanDrifted, detail).remedy("make the plan anew and look at it"))
}

/// Hosts that are emptied get nothing new; hosts that VMs return to take them again.
async fn cordons(shell: &Shell, goal: &PlanGoal, user: &str) -> Result<(), Problem> {
    let hosts: Vec<HostId> = goal.hosts().into_iter().cloned().collect();
    for host in hosts {
        let cordon = Cordon {
            by: user.to_owned(),
            time: jiff::Timestamp::now().to_string(),
            reason: Some("drain".to_owned()),
        };
        match goal {
            PlanGoal::Drain { .. } => turn_for(shell, &host, user, Some(cordon)).await?,
            PlanGoal::Restore { .. } => turn_for(shell, &host, user, None).await?,
            PlanGoal::Balance => {}
        }
    }
    Ok(())
}

pub(super) async fn list(call: Plain<Vec<PlanRun>>) -> Result<Vec<PlanRun>, Problem> {
    let mut all: Vec<PlanRun> = Vec::new();
    let mut after = None;
    loop {
        let page = call.shell.range(Range { after, ..Range::prefix(keys::PLANS) }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        all.extend(parse_all::<PlanRun>(&page)?);
        // The newest are kept.
        let excess = all.len().saturating_sub(LISTED);
        all.drain(..excess);
    }
    all.reverse();
    Ok(all)
}

pub(super) async fn show(call: Call<PlanId, Nothing, PlanRun>) -> Result<PlanRun, Problem> {
    let entry = call.shell.read(vec![keys::plan(call.at)]).await?.into_iter().next().flatten();
    parse(entry.as_ref())?.ok_or_else(|| unknown(call.at))
}

pub(super) async fn stop(call: Call<PlanId, Nothing, PlanRun>) -> Result<PlanRun, Problem> {
    let (id, user) = (call.at, call.user());
    let decide = move |records: &mut Records| {
        let run = records.run.as_mut().ok_or_else(|| unknown(id))?;
        if run.ended.is_none() && !run.stopping {
            run.stopping = true;
            records.notes = vec![Note::by(&user, "plan-stopped").detail(format!("plan {id}"))];
        }
        records.run.clone().ok_or_else(|| unknown(id))
    };
    call.change(Scope::plan(id), decide).await
}

fn unknown(id: PlanId) -> Problem {
    Problem::new(Code::PlanUnknown, format!("there is no plan {id}")).remedy("see `godwit plan ls`")
}
