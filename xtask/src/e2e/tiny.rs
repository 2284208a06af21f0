//! The tiny guest goes there and back, again and again; its memory and its disk
//! are checked word for word.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::images::TinyOptions;
use lab::specs;
use types::{Bytes, VmName};

use super::stage::Stage;
use super::{Scenario, Scene};
use crate::proc;

/// There and back, in every mode.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "tiny",
        about: "the tiny guest goes there and back; pattern and disk are whole",
        scene: Scene::Fast,
        long: false,
        play: there_and_back,
    },
    Scenario {
        name: "tiny-stream",
        about: "the same in mode stream",
        scene: Scene::Stream,
        long: false,
        play: there_and_back,
    },
    Scenario {
        name: "tiny-opaque",
        about: "the same in mode opaque",
        scene: Scene::Opaque,
        long: false,
        play: there_and_back,
    },
];

/// Moves each way: many, because each takes about a second.
const ROUNDS: u32 = 3;

fn there_and_back(stage: &mut Stage) -> Result<()> {
    let vm = start(stage, "tiny", &TinyOptions { rewrite: 256, ..TinyOptions::default() })?;
    let mut blackouts = Vec::new();
    for _ in 0..stage.rounds().max(ROUNDS) {
        for to in ["host-b", "host-a"] {
            let before = head(stage, &vm)?;
            let moved = stage.hop(&vm, to)?;
            blackouts.extend(moved.report.blackout_seconds);
            beats_after(stage, &vm, before.beats)?;
        }
    }
    whole(stage, &vm)?;
    stage.measure("moves", blackouts.len());
    stage.measure("blackout_seconds_max", blackouts.iter().copied().fold(0.0, f64::max));
    Ok(())
}

/// Makes a tiny guest's disk and starts it on host-a.
///
/// # Errors
/// It does not boot.
pub(super) fn start(stage: &mut Stage, name: &str, options: &TinyOptions) -> Result<VmName> {
    start_with(stage, name, options, Bytes::mib(64))
}

/// Like [`start`], with as much memory as is asked for.
///
/// # Errors
/// As there.
pub(super) fn start_with(
    stage: &mut Stage,
    name: &str,
    options: &TinyOptions,
    memory: Bytes,
) -> Result<VmName> {
    lab::images::tiny(&stage.shared().join(specs::tiny_file(name)), options)?;
    let spec = specs::tiny(name, memory)?;
    let vm = stage.start(&spec, "host-a")?;
    beats_after(stage, &vm, 2).context("the tiny guest does not boot")?;
    Ok(vm)
}

/// Starts one on a host of choice.
///
/// # Errors
/// As for [`start`].
pub(super) fn start_on(stage: &mut Stage, name: &str, on: &str) -> Result<VmName> {
    let file = stage.shared().join(specs::tiny_file(name));
    lab::images::tiny(&file, &TinyOptions::default())?;
    let vm = stage.start(&specs::tiny(name, Bytes::mib(64))?, on)?;
    beats_after(stage, &vm, 2).context("the tiny guest does not boot")?;
    Ok(vm)
}

/// The head that the guest keeps in its memory.
///
/// # Errors
/// It cannot be read.
pub(super) fn head(stage: &Stage, vm: &VmName) -> Result<guest::tiny::Head> {
    let mut memory = File::open(stage.memory_file(vm, &stage.owner(vm)?)?)?;
    Ok(guest::tiny::head(&mut memory)?)
}

/// Waits until the guest has made more than `beats` heartbeats.
///
/// # Errors
/// Not within 30 seconds.
pub(super) fn beats_after(stage: &Stage, vm: &VmName, beats: u32) -> Result<()> {
    let mut last = 0;
    proc::until("the guest's heartbeat", Duration::from_secs(30), || {
        // While the guest boots there is no head yet.
        last = head(stage, vm).map_or(0, |h| h.beats);
        Ok((last > beats).then_some(()))
    })
    .with_context(|| format!("{vm}: {last} heartbeats, and there were {beats} before"))
}

/// Pauses the guest and checks all of its memory and its disk.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn whole(stage: &Stage, vm: &VmName) -> Result<()> {
    stage.paused(vm, |stage| {
        let owner = stage.owner(vm)?;
        let mut memory = File::open(stage.memory_file(vm, &owner)?)?;
        let head = guest::tiny::check(&mut memory).context("the memory is not whole")?;
        ensure!(head.disk > 0, "the guest has written no block to its disk");
        let mut disk = File::open(stage.shared().join(specs::tiny_file(vm.as_str())))?;
        lab::images::check_tiny_disk(&mut disk, head.disk).context("the disk is not whole")?;
        Ok(())
    })
}
