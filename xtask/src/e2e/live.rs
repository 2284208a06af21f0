//! What somebody who watches a VM must see of a move: nothing but a pause.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::images::TinyOptions;
use types::{AttemptPhase, Bytes, RunState, VmName};

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene, faults, tiny};
use crate::fleet::Order;
use crate::guests::{self, Linux};
use crate::proc;

/// A guest must answer this soon after the switchover.
const REACHABLE: Duration = Duration::from_secs(1);

/// What is seen from outside.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "quiet",
        about: "a guest that never sends is reachable within 1 s of the switchover",
        scene: Scene::Fast,
        long: false,
        play: quiet,
    },
    Scenario {
        name: "paused",
        about: "a paused VM moves, stays paused, and goes on when told",
        scene: Scene::Fast,
        long: false,
        play: paused,
    },
    Scenario {
        name: "verify",
        about: "memory digest and registers of both sides are equal at the switchover",
        scene: Scene::Fast,
        long: false,
        play: verify,
    },
];

fn quiet(stage: &mut Stage) -> Result<()> {
    let linux = Linux {
        name: "quiet",
        number: 21,
        memory: Bytes::mib(256),
        vcpus: 1,
        roles: "quiet",
        disks: Vec::new(),
    };
    let guest = Guest::start(stage, &linux)?;
    let mut waits = Vec::new();
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            // One answer, so that the switch has learnt where the guest is now.
            guests::ask(guest.ip, "echo here", REACHABLE)?;
            let mut migration = stage.fleet.begin(&Order::to(guest.vm.as_str(), to))?;
            faults::reach(stage, &guest.vm, AttemptPhase::Activating, &mut migration)?;
            let switched = Instant::now();
            proc::until_quickly("an answer of the quiet guest", REACHABLE, || {
                Ok(guests::ask(guest.ip, "echo there", Duration::from_millis(100)).ok())
            })
            .with_context(|| format!("after the switchover to {to}"))?;
            waits.push(switched.elapsed().as_secs_f64());
            migration.end()?.completed()?;
        }
    }
    stage.measure("answer_seconds", waits);
    Ok(())
}

fn paused(stage: &mut Stage) -> Result<()> {
    let vm = tiny::start(stage, "paused", &TinyOptions::default())?;
    stage.fleet.ask(async |c| c.pause(&vm).await)?;
    stage.wait(&vm, RunState::Paused)?;
    let beats = tiny::head(stage, &vm)?.beats;
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            stage.hop(&vm, to)?;
            still(stage, &vm, beats)?;
        }
    }
    stage.hop(&vm, "host-b")?;
    stage.fleet.ask(async |c| c.resume(&vm).await)?;
    stage.wait(&vm, RunState::Running)?;
    tiny::beats_after(stage, &vm, beats)?;
    tiny::whole(stage, &vm)
}

/// Wants a paused VM to be paused and to stand where it stood.
fn still(stage: &Stage, vm: &VmName, beats: u32) -> Result<()> {
    // Ten heartbeats would be due in this time.
    proc::pause(Duration::from_secs(1))?;
    let (state, now) = (stage.view(vm)?.state, tiny::head(stage, vm)?.beats);
    ensure!(state == Some(RunState::Paused), "a paused VM is {state:?} after its move");
    ensure!(now == beats, "a paused VM has made {} heartbeats", now - beats);
    Ok(())
}

fn verify(stage: &mut Stage) -> Result<()> {
    let vm = tiny::start(stage, "verify", &TinyOptions::default())?;
    for to in ["host-b", "host-a"] {
        let order = Order { verify: true, ..Order::to(vm.as_str(), to) };
        let moved = stage.hop_with(&order)?;
        stage.measure(&format!("blackout_seconds_{to}"), moved.report.blackout_seconds);
    }
    tiny::whole(stage, &vm)
}
