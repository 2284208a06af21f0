//! Something is killed, cut or cancelled in the middle of a move: the VM runs
//! on, nothing is left where it is not, and the next move works.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::ClientError;
use api::body::AttemptView;
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

macro_rules! scenarios {
    ($($name:literal, $about:literal, $when:expr, $disturb:expr;)*) => {
        /// Every fault.
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            scene: Scene::Slow,
            long: false,
            play: |stage| play(stage, $when, $disturb),
        }),*];
    };
}

scenarios! {
    "kill-agent-a", "the source's agent is killed in the copy phase",
        AttemptPhase::Copying, |s, _| kill_agent(s, "host-a");
    "kill-agent-b", "the destination's agent is killed in the copy phase",
        AttemptPhase::Copying, |s, _| kill_agent(s, "host-b");
    "kill-carrier-a", "the source's carrier is killed in the copy phase",
        AttemptPhase::Copying, |s, _| kill_carrier(s, "host-a");
    "kill-carrier-b", "the destination's carrier is killed in the copy phase",
        AttemptPhase::Copying, |s, _| kill_carrier(s, "host-b");
    "kill-controller", "the controller is killed in the copy phase",
        AttemptPhase::Copying, |s, _| kill_controller(s);
    "link-reset", "the carriers' connection is reset in the copy phase",
        AttemptPhase::Copying, |s, _| Ok(Proxy::of(s.fleet.dir())?.reset("host-b")?);
    "link-pulled", "the source's link is pulled for two seconds in the copy phase",
        AttemptPhase::Copying, |s, _| pull(s);
    "cancel-preparing", "cancelled while the destination prepares",
        AttemptPhase::Preparing, cancel;
    "cancel-copying", "cancelled in the copy phase",
        AttemptPhase::Copying, cancel;
    "cancel-switching", "cancelled at the switchover",
        AttemptPhase::Switching, cancel;
    "cancel-activating", "cancelled after the claim",
        AttemptPhase::Activating, cancel;
    "cancel-cleaning", "cancelled while the source is released",
        AttemptPhase::Cleaning, cancel;
}

/// Moves a VM, disturbs the move in `phase`, and looks at what came of it.
fn play(stage: &mut Stage, phase: AttemptPhase, disturb: Disturb) -> Result<()> {
    let vm = tiny::start_with(stage, "tiny", &TinyOptions::default(), Bytes::mib(96))?;
    let before = tiny::head(stage, &vm)?;
    let mut migration = stage.fleet.begin(&Order::to(vm.as_str(), "host-b"))?;
    let seen = reach(stage, &vm, phase, &mut migration)?;
    stage.measure("disturbed_in", seen.to_string());
    disturb(stage, &vm)?;
    // What the command says matters less than what is: it may have lost its controller.
    let told = migration.end().ok();
    settle(stage, &vm)?;
    let owner = stage.owner(&vm)?;
    let other = if owner == "host-a" { "host-b" } else { "host-a" };
    stage.measure("owner", &owner);
    if let Some(told) = &told {
        stage.measure("outcome", told.report.outcome);
        let moved = told.report.outcome == Some(Outcome::Completed);
        ensure!(
            moved == (owner == "host-b"),
            "the report says {:?} ({:?}), and {owner} owns the VM",
            told.report.outcome,
            told.report.reason
        );
    }
    tiny::beats_after(stage, &vm, before.beats).context("the VM does not run on")?;
    let qemus = lab::processes(stage.fleet.dir(), &owner)?.qemus.len();
    ensure!(qemus == 1, "{owner} has {qemus} QEMUs, and should have one");
    stage.nothing_left(&vm, other)?;
    let next = stage.hop(&vm, other).context("the next migration")?;
    stage.measure("next_seconds", next.took.as_secs_f64());
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
    proc::until_quickly(&format!("{phase} of the migration"), SETTLE, || {
        let Some(attempt) = attempt(stage, vm)? else {
            return Ok((!migration.is_running()?).then_some(AttemptPhase::Done));
        };
        // Some of the memory is there, so that there is something to clean up.
        let begun = attempt.progress.is_some_and(|p| p.done_bytes > 8 << 20);
        let here = attempt.phase == phase && (phase != AttemptPhase::Copying || begun);
        Ok((here || attempt.phase > phase).then_some(attempt.phase))
    })
}

/// The attempt under way, if there is one.
fn attempt(stage: &Stage, vm: &VmName) -> Result<Option<AttemptView>> {
    let Some(id) = stage.view(vm)?.ownership.and_then(|o| o.attempt) else { return Ok(None) };
    stage.fleet.ask(async |c| c.attempt(id).await).map(Some)
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

fn pull(stage: &Stage) -> Result<()> {
    lab::link(stage.fleet.dir(), "host-a", LinkState::Down)?;
    let paused = proc::pause(Duration::from_secs(2));
    lab::link(stage.fleet.dir(), "host-a", LinkState::Up)?;
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
