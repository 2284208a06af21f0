//! Plans that are being carried out: attempts begun, results taken in, what is left
//! planned anew.

use std::collections::BTreeMap;

use api::body::MigrateRequest;
use planner::fleet::Goal;
use planner::reassign::{Alone, Options};
use types::{
    AttemptId, Code, FleetPlan, HostId, MoveState, PlanGoal, PlanId, PlanRun, Problem, RunState,
    VmId, VmName,
};
use uuid::Uuid;

use super::describe::{describe, stray};
use crate::call::Terms;
use crate::core::{self, Attempt, Note, Purpose, Tried, Vm, Whereabouts, World};
use crate::fleet::Fleet;
use crate::keys;
use crate::records::{Records, Scope, parse};
use crate::shell::{Shell, parse_all};
use crate::users::migrations::{Begin, begin};

/// Where chance begins: always there, so that the same state gives the same plan.
const SEED: u64 = 1;
/// Moves that a plan tries.
const EFFORT: u64 = 2_000_000;
/// Parts that large fleets are dealt into.
const WORKERS: usize = 4;

/// Plans for a goal, upon the records as they are.
///
/// # Errors
/// A host of the goal is not known, or the planner refuses.
pub(crate) async fn make(
    shell: &Shell,
    goal: &PlanGoal,
) -> Result<(types::Fleet, FleetPlan), Problem> {
    let fleet = fleet(shell, goal).await?;
    let wanted = match goal {
        PlanGoal::Drain { hosts } => Goal::Drain(hosts.clone()),
        // Whoever is to return is pinned to its home.
        PlanGoal::Restore { .. } => Goal::Settle,
        PlanGoal::Balance => Goal::Balance,
    };
    let work = tokio::task::spawn_blocking(move || {
        let options = Options { seed: SEED, moves: EFFORT, workers: WORKERS };
        planner::fleet::plan(&fleet, &wanted, &options, &Alone).map(|plan| (fleet, plan))
    });
    work.await.map_err(|e| Problem::new(Code::Internal, format!("planning failed: {e}")))?
}

/// The fleet, as a goal's plan is made from it.
///
/// # Errors
/// A host of the goal is not known.
pub(crate) async fn fleet(shell: &Shell, goal: &PlanGoal) -> Result<types::Fleet, Problem> {
    let fleet = describe(shell, goal).await?;
    let known = |host: &&HostId| fleet.hosts.iter().any(|h| h.name == **host);
    if let Some(host) = goal.hosts().into_iter().find(|host| !known(host)) {
        return Err(Problem::new(Code::HostUnknown, format!("there is no host {host}"))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard"));
    }
    Ok(fleet)
}

/// VMs that run where the goal does not want them, by name.
async fn left(shell: &Shell, goal: &PlanGoal) -> Result<Vec<VmName>, Problem> {
    let fleet = Fleet::read(shell).await?;
    let mut names: Vec<VmName> =
        stray(&fleet, goal).into_iter().map(|(_, vm, _)| vm.spec.name).collect();
    names.sort();
    Ok(names)
}

/// Looks once at every plan that is under way. To a `young` controller agents have
/// not spoken yet.
pub(super) async fn round(shell: &Shell, young: bool) -> Result<(), Problem> {
    let under_way = shell.all(keys::UNDER_WAY).await?;
    for id in under_way.iter().filter_map(|entry| keys::tail::<PlanId>(&entry.key)) {
        if let Err(problem) = carry(shell, id, young).await {
            tracing::warn!(%problem, plan = %id, "a plan cannot be carried on");
        }
    }
    Ok(())
}

async fn carry(shell: &Shell, id: PlanId, young: bool) -> Result<(), Problem> {
    let scope = Scope::plan(id);
    let Some(run) = shell.records(&scope).await?.run else { return Ok(()) };
    let world = look(shell, &run).await?;
    let decide = move |records: &mut Records| {
        let Some(run) = &mut records.run else { return Ok(Vec::new()) };
        Ok(core::advance(run, &world, || AttemptId(Uuid::now_v7())))
    };
    let now: Vec<usize> = shell.change(scope.clone(), decide).await?;
    let Some(run) = shell.records(&scope).await?.run else { return Ok(()) };
    for place in now {
        if let Some(planned) = run.moves.get(place)
            && let MoveState::Moving { attempt } = planned.state
        {
            set_out(shell, &run, place, attempt, young).await?;
        }
    }
    if core::over(&run) {
        return conclude(shell, run).await;
    }
    Ok(())
}

/// Where the VMs of a plan are, and how its attempts are.
async fn look(shell: &Shell, run: &PlanRun) -> Result<World, Problem> {
    let open: Vec<_> = run.moves.iter().filter(|m| !m.state.ended()).collect();
    let mut names: Vec<&VmName> = open.iter().map(|m| &m.planned.vm).collect();
    names.sort();
    names.dedup();
    let ids = shell.read(names.iter().map(|name| keys::name(name)).collect()).await?;
    let mut world = World::default();
    for (name, entry) in names.into_iter().zip(&ids) {
        let Some(id) = parse::<VmId>(entry.as_ref())? else { continue };
        let records = shell.records(&Scope::vm(id)).await?;
        let (Some(Vm { desired, .. }), Some(own)) = (records.vm, records.own) else { continue };
        let (owner, attempt) = (own.owner, own.attempt);
        let runs = desired != RunState::Stopped;
        world.vms.insert(name.clone(), Whereabouts { owner, runs, attempt });
    }
    let attempts = open.iter().filter_map(|m| match m.state {
        MoveState::Moving { attempt } => Some(keys::attempt(attempt)),
        _ => None,
    });
    let entries = shell.read(attempts.collect()).await?;
    let found: Vec<Attempt> = parse_all(&entries.into_iter().flatten().collect::<Vec<_>>())?;
    world.attempts = found.into_iter().map(|a| (a.record.id, tried(a))).collect();
    Ok(world)
}

fn tried(attempt: Attempt) -> Tried {
    let record = attempt.record;
    Tried {
        done: record.phase == types::AttemptPhase::Done,
        outcome: record.report.outcome,
        reason: record.report.reason,
    }
}

/// Begins the attempt of a move; what is refused is a move that failed.
async fn set_out(
    shell: &Shell,
    run: &PlanRun,
    place: usize,
    attempt: AttemptId,
    young: bool,
) -> Result<(), Problem> {
    let planned = &run.moves[place].planned;
    let purpose = match run.goal {
        PlanGoal::Drain { .. } => Purpose::Displace,
        PlanGoal::Restore { .. } | PlanGoal::Balance => Purpose::Settle,
    };
    let request = MigrateRequest { to: Some(planned.to.clone()), ..MigrateRequest::default() };
    let user = format!("{} {}", run.by, run.goal.word());
    let wanted = Begin { attempt, request, purpose, user };
    let Err(problem) = begin(shell, Terms::default(), &planned.vm, wanted).await else {
        return Ok(());
    };
    let state = match problem.code {
        Code::StoreUnavailable => return Err(problem),
        Code::HostUnknown | Code::HostDown | Code::VmNotRunning if young => return Ok(()),
        // Somebody was faster; its turn comes again.
        Code::MigrationUnderWay | Code::Conflict => MoveState::Waiting,
        _ => MoveState::Failed { why: problem.detail },
    };
    let decide = move |records: &mut Records| {
        let planned = records.run.as_mut().and_then(|run| run.moves.get_mut(place));
        if let Some(planned) = planned
            && planned.state == (MoveState::Moving { attempt })
        {
            planned.state = state.clone();
        }
        Ok(())
    };
    shell.change(Scope::plan(run.id), decide).await
}

/// All moves have ended: what is left is planned anew, or it is over.
async fn conclude(shell: &Shell, run: PlanRun) -> Result<(), Problem> {
    let left = match run.goal {
        PlanGoal::Balance => failed(&run),
        _ => left(shell, &run.goal).await?,
    };
    let more = match core::again(&run) && !left.is_empty() {
        true => Some(make(shell, &run.goal).await?.1),
        false => None,
    };
    let now = jiff::Timestamp::now();
    let decide = move |records: &mut Records| {
        let Some(run) = records.run.as_mut().filter(|run| run.ended.is_none()) else {
            return Ok(());
        };
        if let Some(plan) = &more {
            run.replans += 1;
            run.blocked.clone_from(&plan.blocked);
            if core::extend(run, plan.moves.clone()) {
                return Ok(());
            }
        }
        run.ended = Some(now.to_string());
        let began: Option<jiff::Timestamp> = run.began.parse().ok();
        run.seconds = began.map(|began| now.duration_since(began).as_secs_f64());
        run.left.clone_from(&left);
        let detail = format!("{}: {} left; plan {}", run.goal, run.left.len(), run.id);
        records.notes = vec![Note::by("controller", "plan-ended").detail(detail)];
        Ok(())
    };
    shell.change(Scope::plan(run.id), decide).await
}

/// VMs whose last move failed.
fn failed(run: &PlanRun) -> Vec<VmName> {
    let last: BTreeMap<&VmName, &MoveState> =
        run.moves.iter().map(|m| (&m.planned.vm, &m.state)).collect();
    let failed = |state: &MoveState| matches!(state, MoveState::Failed { .. });
    last.into_iter().filter(|(_, state)| failed(state)).map(|(vm, _)| vm.clone()).collect()
}
