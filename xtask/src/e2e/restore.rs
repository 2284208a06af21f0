//! The controller's store is lost and made again from an older backup: every VM runs
//! on, what changed in between is found, and nothing is started twice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::body::{HistoryQuery, StartRequest};
use lab::images::TinyOptions;
use lab::specs;
use rustix::process::Signal;
use types::{Bytes, RunState, VmName};

use super::stage::Stage;
use super::{Scenario, Scene, tiny};
use crate::fleet::Order;
use crate::proc;

/// One backup, one loss.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "restore",
    about: "the store is lost and restored from a backup that is too old",
    scene: Scene::Fast,
    long: false,
    play,
}];

/// Until the hosts have said what they have.
const FOUND: Duration = Duration::from_secs(60);

fn play(stage: &mut Stage) -> Result<()> {
    let options = TinyOptions { rewrite: 64, ..TinyOptions::default() };
    let vms: Vec<VmName> = ["stays", "moves", "stops"]
        .into_iter()
        .map(|name| tiny::start_with(stage, name, &options, Bytes::mib(16)))
        .collect::<Result<_>>()?;
    let [stays, moves, stops] = vms.as_slice() else { unreachable!("three were started") };
    let backup = stage.fleet.dir().join("backup.json");
    let backup = backup.display().to_string();
    stage.fleet.run(&["controller", "backup", &backup])?;

    // A young lab's hosts have not found each other's marks in the pools yet.
    proc::until("a move is allowed", FOUND, || {
        Ok(stage.fleet.run(&["migrate", "moves", "--to", "host-b", "--dry-run"]).ok())
    })?;
    // What the backup does not know.
    stage.fleet.migrate(&Order::to("moves", "host-b"))?;
    stage.fleet.ask(async |c| c.stop(stops).await)?;
    stage.wait(stops, RunState::Stopped)?;
    let made = make(stage, "made", &options)?;
    let running = [stays, moves, &made];
    let before: Vec<u32> =
        running.iter().map(|vm| Ok(tiny::head(stage, vm)?.beats)).collect::<Result<_>>()?;
    let processes = qemus(stage)?;
    ensure!(processes.len() == 3, "three VMs run as {processes:?}");

    lose_and_restore(stage, &backup)?;
    proc::until("nothing in doubt any more", FOUND, || {
        // It may not answer yet.
        let Ok(view) = stage.fleet.ask(async |c| c.controller().await) else { return Ok(None) };
        ensure!(view.restored.is_some(), "the controller does not know that it was restored");
        let clear = view.awaited.is_empty() && view.in_doubt.is_empty();
        Ok(clear.then_some(()))
    })?;

    ensure!(qemus(stage)? == processes, "the QEMUs are not those from before");
    for (vm, host, state) in [
        (stays, "host-a", RunState::Running),
        (moves, "host-b", RunState::Running),
        (&made, "host-b", RunState::Running),
        (stops, "host-a", RunState::Stopped),
    ] {
        let view = stage.view(vm)?;
        ensure!(view.desired == state, "{vm} is to be {} and was {state}", view.desired);
        let owner = stage.owner(vm)?;
        ensure!(owner == host, "{vm} is on {host}, and the record says {owner}");
    }
    for (vm, beats) in running.into_iter().zip(before) {
        tiny::beats_after(stage, vm, beats)?;
    }
    told(stage)?;
    // It is an ordinary fleet again, and what was found can be moved.
    stage.fleet.migrate(&Order::to("made", "host-a"))?;
    for vm in running {
        tiny::whole(stage, vm)?;
    }
    ensure!(qemus(stage)?.len() == 3, "something was started twice");
    for vm in running {
        stage.fleet.ask(async |c| c.stop(vm).await)?;
        stage.wait(vm, RunState::Stopped)?;
    }
    stage.measure("vms", 4);
    Ok(())
}

/// A VM that only the lost store knew.
fn make(stage: &Stage, name: &str, options: &TinyOptions) -> Result<VmName> {
    lab::images::tiny(&stage.shared().join(specs::tiny_file(name)), options)?;
    let spec = specs::tiny(name, Bytes::mib(16))?;
    let request = StartRequest { on: Some("host-b".parse()?), ..StartRequest::default() };
    stage.fleet.ask(async |c| c.create_vm(&spec).await)?;
    stage.fleet.ask(async |c| c.start(&spec.name, &request).await)?;
    stage.wait(&spec.name, RunState::Running)?;
    tiny::beats_after(stage, &spec.name, 1)?;
    Ok(spec.name)
}

/// Every QEMU of the lab.
fn qemus(stage: &Stage) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for (_, host) in stage.fleet.plan().hosts() {
        let found = lab::processes(stage.fleet.dir(), host.as_str())?;
        all.extend(found.qemus.iter().map(|process| process.pid));
    }
    Ok(all)
}

/// Ends the controller, destroys its store, and restores it.
fn lose_and_restore(stage: &Stage, backup: &str) -> Result<()> {
    let dir = stage.fleet.dir().join("controller");
    let (config, aside) = (dir.join("controller.toml"), dir.join("aside.toml"));
    let store = store_of(&config)?;
    // Its supervisor cannot start it again without a configuration.
    std::fs::rename(&config, &aside)?;
    let controller = lab::outside(stage.fleet.dir())?.controller;
    let controller = controller.context("there is no controller")?;
    controller.signal(Signal::KILL)?;
    ensure!(controller.wait_gone(Duration::from_secs(10)), "the controller does not end");
    std::fs::remove_file(&store).context("the store cannot be destroyed")?;
    let aside_text = aside.display().to_string();
    stage.fleet.run(&["controller", "restore", backup, "--config", &aside_text])?;
    std::fs::rename(&aside, &config)?;
    Ok(())
}

fn store_of(config: &std::path::Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(config)?;
    let store = text.lines().find_map(|line| line.strip_prefix("store = "));
    Ok(store.context("no store in controller.toml")?.trim_matches('"').into())
}

/// The history tells what was found.
fn told(stage: &Stage) -> Result<()> {
    let events = stage.fleet.ask(async |c| c.history(&HistoryQuery::default()).await)?;
    for (vm, word) in [
        ("stays", "restore-confirmed"),
        ("moves", "restore-found"),
        ("made", "restore-found"),
        ("stops", "restore-missing"),
    ] {
        let found = events
            .iter()
            .filter(|e| e.event == word && e.vm.as_ref().is_some_and(|name| name.as_str() == vm));
        ensure!(found.count() == 1, "the history does not tell {word} of {vm}");
    }
    Ok(())
}
