//! Something is killed, cut or cancelled in the middle of a move: the VM runs
//! on, nothing is left where it is not, and the next move works.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::ClientError;
use lab::images::TinyOptions;
use lab::{LinkState, Proxy};
use rustix::process::Signal;
use types::{AttemptPhase, Bytes, Code, Outcome, VmName};

use super::stage::Stage;
use super::{Scenario, Scene, tiny};
use crate::fleet::{Migration, Order};
use crate::proc;

/// Longest until a disturbed attempt has come to its end.
const SETTLE: Duration = Duration::from_secs(120);

/// A disturbance, and whether the attempt may complete all the same.
type Disturb = fn(&Stage, &VmName) -> Result<()>;

/// The switchover is too short to be seen from outside and then disturbed.
pub(super) const SWEEP: &[Scenario] = &[Scenario {
    name: "cancel-switching",
    about: "cancelled at moments all around the switchover",
    scene: Scene::Fast,
    long: false,
    play: sweep,
}];

macro_rules! scenarios {
    ($($name:literal, $about:literal, $scene:ident, $when:ident, $disturb:expr;)*) => {
        /// Faults in a phase that can be seen.
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            scene: Scene::$scene,
            long: false,
            play: |stage| play(stage, AttemptPhase::$when, $disturb),
        }),*];
    };
}

// Copying is disturbed where it takes seconds, the short phases where trying
// again is cheap.
scenarios! {
    "kill-agent-a", "the source's agent is killed in the copy phase",
        Slow, Copying, |s, vm| kill_agent(s, &s.owner(vm)?);
    "kill-agent-b", "the destination's agent is killed in the copy phase",
        Slow, Copying, |s, vm| kill_agent(s, s.not_owner(vm)?);
    "kill-carrier-a", "the source's carrier is killed in the copy phase",
        Slow, Copying, |s, vm| kill_carrier(s, &s.owner(vm)?);
    "kill-carrier-b", "the destination's carrier is killed in the copy phase",
        Slow, Copying, |s, vm| kill_carrier(s, s.not_owner(vm)?);
    "kill-controller", "the controller is killed in the copy phase",
        Slow, Copying, |s, _| kill_controller(s);
    "link-reset", "the carriers' connection is reset in the copy phase",
        Slow, Copying, |s, vm| Ok(Proxy::of(s.fleet.dir())?.reset(s.not_owner(vm)?)?);
    "link-pulled", "the source's link is pulled for two seconds in the copy phase",
        Slow, Copying, |s, vm| pull(s, &s.owner(vm)?);
    "cancel-preparing", "cancelled while the destination prepares",
        Fast, Preparing, cancel;
    "cancel-copying", "cancelled in the copy phase",
        Slow, Copying, cancel;
    "cancel-activating", "cancelled after the claim",
        Fast, Activating, cancel;
    "cancel-cleaning", "cancelled while the source is released",
        Fast, Cleaning, cancel;
}

/// Moves until a phase that passes quickly was hit.
const TRIES: usize = 10;

/// Moves a VM, disturbs the move in `phase`, and looks at what came of it.
fn play(stage: &mut Stage, phase: AttemptPhase, disturb: Disturb) -> Result<()> {
    let vm = tiny::start_with(stage, "tiny", &TinyOptions::default(), Bytes::mib(96))?;
    let mut seen = Vec::new();
    while seen.last() != Some(&phase) && seen.len() < TRIES {
        seen.push(once(stage, &vm, phase, disturb)?);
    }
    stage.measure("disturbed_in", seen.iter().map(ToString::to_string).collect::<Vec<_>>());
    ensure!(seen.last() == Some(&phase), "{phase} was never hit in {TRIES} moves");
    let next = stage.hop(&vm, stage.not_owner(&vm)?).context("the next migration")?;
    stage.measure("next_seconds", next.took.as_secs_f64());
    tiny::whole(stage, &vm)
}

/// One disturbed move; the phase in which it was disturbed.
fn once(
    stage: &mut Stage,
    vm: &VmName,
    phase: AttemptPhase,
    disturb: Disturb,
) -> Result<AttemptPhase> {
    let mut seen = phase;
    disturbed(stage, vm, |stage, migration| {
        seen = reach(stage, vm, phase, migration)?;
        if seen == phase { disturb(stage, vm) } else { Ok(()) }
    })?;
    Ok(seen)
}

/// A move that `disturb` disturbs, and what must hold afterwards. Returns the
/// host that owns the VM then.
fn disturbed(
    stage: &mut Stage,
    vm: &VmName,
    disturb: impl FnOnce(&Stage, &mut Migration) -> Result<()>,
) -> Result<String> {
    let before = tiny::head(stage, vm)?;
    let (from, to) = (stage.owner(vm)?, stage.not_owner(vm)?);
    let mut migration = stage.fleet.begin(&Order::to(vm.as_str(), to))?;
    disturb(stage, &mut migration)?;
    // What the command says matters less than what is: it may have lost its controller.
    let told = migration.end().ok();
    settle(stage, vm)?;
    let owner = stage.owner(vm)?;
    if let Some(told) = &told {
        stage.measure("outcome", told.report.outcome);
        let moved = told.report.outcome == Some(Outcome::Completed);
        ensure!(
            moved == (owner == to),
            "the report says {:?} ({:?}), and {owner} owns the VM, which came from {from}",
            told.report.outcome,
            told.report.reason
        );
    }
    tiny::beats_after(stage, vm, before.beats).context("the VM does not run on")?;
    let qemus = lab::processes(stage.fleet.dir(), &owner)?.qemus.len();
    ensure!(qemus == 1, "{owner} has {qemus} QEMUs, and should have one");
    stage.nothing_left(vm, stage.not_owner(vm)?)?;
    Ok(owner)
}

/// Cancels a little later after each cancel that came in time, and a little
/// earlier after each that came too late: so most come at the switchover.
fn sweep(stage: &mut Stage) -> Result<()> {
    const STEP: Duration = Duration::from_millis(20);
    let vm = tiny::start_with(stage, "tiny", &TinyOptions::default(), Bytes::mib(96))?;
    let begun = Instant::now();
    let mut migration = stage.fleet.begin(&Order::to(vm.as_str(), "host-b"))?;
    reach(stage, &vm, AttemptPhase::Activating, &mut migration)?;
    let mut moment = begun.elapsed();
    migration.end()?.completed()?;
    let moves = if stage.long { 60 } else { 16 };
    let (mut in_time, mut too_late) = (0, 0);
    for _ in 0..moves {
        let from = stage.owner(&vm)?;
        let owner = disturbed(stage, &vm, |stage, _| {
            proc::pause(moment)?;
            cancel(stage, &vm)
        })?;
        // Until both have happened the switchover is still looked for: later moves are
        // quicker than the first.
        let step = if in_time == 0 || too_late == 0 { STEP * 4 } else { STEP };
        if owner == from {
            in_time += 1;
            moment += step;
        } else {
            too_late += 1;
            moment = moment.saturating_sub(step);
        }
    }
    stage.measure("cancelled", in_time);
    stage.measure("too_late", too_late);
    ensure!(in_time > 0 && too_late > 0, "all {moves} cancels came on one side of the switchover");
    tiny::whole(stage, &vm)
}

/// Waits until the attempt is in `phase`, or further where it was too quick to
/// be seen there; says where it is.
///
/// # Errors
/// It does not get there.
pub(super) fn reach(
    stage: &Stage,
    vm: &VmName,
    phase: AttemptPhase,
    migration: &mut Migration,
) -> Result<AttemptPhase> {
    let mut id = None;
    proc::until_quickly(&format!("{phase} of the migration"), SETTLE, || {
        if id.is_none() {
            id = stage.view(vm)?.ownership.and_then(|o| o.attempt);
        }
        let Some(id) = id else {
            return Ok((!migration.is_running()?).then_some(AttemptPhase::Done));
        };
        let attempt = stage.fleet.ask(async |c| c.attempt(id).await)?;
        // Some of the memory is there, so that there is something to clean up.
        let begun = attempt.progress.is_some_and(|p| p.done_bytes > 8 << 20);
        let here = attempt.phase == phase && (phase != AttemptPhase::Copying || begun);
        Ok((here || attempt.phase > phase).then_some(attempt.phase))
    })
}

/// Waits until no attempt holds the VM and its owner sees it running.
fn settle(stage: &Stage, vm: &VmName) -> Result<()> {
    let mut last = String::new();
    let result = proc::until("the end of the attempt", SETTLE, || {
        // The controller may be away for a moment.
        let view = match stage.view(vm) {
            Ok(view) => view,
            Err(e) => {
                last = format!("{e:#}");
                return Ok(None);
            }
        };
        last = format!("{:?}, seen as {:?}", view.ownership, view.state);
        let free = view.ownership.is_some_and(|o| o.attempt.is_none() && o.settled);
        Ok((free && view.state == Some(types::RunState::Running)).then_some(()))
    });
    result.with_context(|| format!("last seen: {last}"))
}

fn kill_agent(stage: &Stage, host: &str) -> Result<()> {
    let agent = lab::processes(stage.fleet.dir(), host)?.agent.context("no agent to kill")?;
    agent.signal(Signal::KILL)?;
    Ok(())
}

fn kill_carrier(stage: &Stage, host: &str) -> Result<()> {
    let carriers = lab::processes(stage.fleet.dir(), host)?.carriers;
    ensure!(carriers.len() == 1, "{host} has {} carriers, and should have one", carriers.len());
    for carrier in carriers {
        carrier.signal(Signal::KILL)?;
    }
    Ok(())
}

fn kill_controller(stage: &Stage) -> Result<()> {
    let controller = lab::outside(stage.fleet.dir())?.controller.context("no controller")?;
    controller.signal(Signal::KILL)?;
    Ok(())
}

fn pull(stage: &Stage, host: &str) -> Result<()> {
    lab::link(stage.fleet.dir(), host, LinkState::Down)?;
    let paused = proc::pause(Duration::from_secs(2));
    lab::link(stage.fleet.dir(), host, LinkState::Up)?;
    paused
}

/// Cancels; that it is too late is an answer, and so is that it is over.
fn cancel(stage: &Stage, vm: &VmName) -> Result<()> {
    let answer = stage.fleet.ask(async |c| match c.cancel(vm).await {
        Err(ClientError::Problem(p)) if matches!(p.code, Code::TooLate | Code::NoMigration) => {
            Ok(None)
        }
        other => other.map(Some),
    })?;
    let Some(answer) = answer else { return Ok(()) };
    ensure!(answer.report.outcome != Some(Outcome::Completed), "cancelled what was complete");
    Ok(())
}
