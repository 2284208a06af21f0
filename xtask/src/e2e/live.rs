//! What somebody who watches a VM must see of a move: nothing but a pause.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use guest::CONTROL_PORT;
use lab::images::TinyOptions;
use lab::witness::{BeatWitness, StreamWitness, first_answer};
use types::{AttemptPhase, Bytes, RunState, VmName};

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene, faults, tiny};
use crate::fleet::Order;
use crate::guests::{self, Linux};
use crate::proc;

/// A guest must answer this soon after the switchover.
const REACHABLE: Duration = Duration::from_secs(1);

/// Longest a guest may be silent otherwise.
const ANSWER: Duration = Duration::from_secs(10);

/// What is seen from outside.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "console",
        about: "console log, heartbeat and TCP stream go on across moves",
        scene: Scene::Fast,
        long: false,
        play: console,
    },
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

fn console(stage: &mut Stage) -> Result<()> {
    let plan = stage.fleet.plan();
    let beats = BeatWitness::listen((plan.outside(), guest::BEAT_PORT).into())?;
    let linux = Linux {
        name: "console",
        number: 20,
        memory: Bytes::mib(256),
        vcpus: 1,
        roles: "serve,beat",
        disks: Vec::new(),
    };
    let guest = Guest::start(stage, &linux)?;
    let ip = guest.ip.into();
    let stream = StreamWitness::connect((guest.ip, guest::SERVE_PORT).into(), ANSWER)?;
    ensure!(beats.wait_for(ip, 10, ANSWER), "no heartbeat");
    proc::until("the first tick on the console", ANSWER, || {
        Ok(last_tick(&stage.console_text(&guest.vm)?).ok())
    })?;
    let mut gaps = Vec::new();
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            beats.forget_gaps(ip);
            let tick = last_tick(&stage.console_text(&guest.vm)?)?;
            stage.hop(&guest.vm, to)?;
            // The other host's log goes on where this one's ends.
            ensure!(beats.wait_for(ip, 20, ANSWER), "no heartbeat after the move to {to}");
            ensure!(stream.wait_for(4096, ANSWER), "the TCP stream stands still on {to}");
            let heard = beats.report(ip);
            // A packet that another has overtaken is one regression and one missing.
            ensure!(
                heard.regressions <= heard.missing && heard.reboots == 0,
                "the guest went back in time: {heard:?}"
            );
            gaps.push(heard.longest_gap.as_secs_f64());
            proc::until("the console log goes on", ANSWER, || {
                let now = last_tick(&stage.console_text(&guest.vm)?).unwrap_or_default();
                Ok((now > tick).then_some(()))
            })?;
        }
    }
    let report = stream.finish();
    ensure!(report.flawless(), "the TCP stream was harmed: {report:?}");
    stage.measure("gap_seconds", gaps);
    stage.measure("missing_beats", beats.report(ip).missing);
    Ok(())
}

/// The number of the last line that the guest's clock wrote.
fn last_tick(log: &str) -> Result<u64> {
    log.lines()
        .rev()
        .find_map(|l| l.split_once("guest tick ")?.1.split(' ').next()?.parse().ok())
        .context("no tick on the console")
}

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
            guests::control(guest.ip, REACHABLE)?.ask("echo here")?;
            let mut migration = stage.fleet.begin(&Order::to(guest.vm.as_str(), to))?;
            faults::reach(stage, &guest.vm, AttemptPhase::Activating, &mut migration)?;
            let answered = first_answer((guest.ip, CONTROL_PORT).into(), REACHABLE);
            let answered = answered.with_context(|| {
                format!("the quiet guest does not answer within 1 s of the switchover to {to}")
            })?;
            waits.push(answered.as_secs_f64());
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
