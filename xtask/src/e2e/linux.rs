//! Linux guests: memory full of content, memory that changes, disks under load.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use guest::chain::{self, Ring};
use lab::specs;
use types::{Bytes, DiskFormat, RunState, VmName, VmSpec};

use super::stage::Stage;
use super::{Scenario, Scene};
use crate::guests::{self, Linux};
use crate::proc;

/// Longest a guest may take to check its own memory.
const CHECK: Duration = Duration::from_secs(120);
/// Longest a guest may take to answer a simple question.
const ANSWER: Duration = Duration::from_secs(10);

/// Loads.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "fill",
        about: "2 GiB of memory with 1.2 GiB of content arrive whole",
        scene: Scene::Fast,
        long: false,
        play: fill,
    },
    Scenario {
        name: "dirty",
        about: "a guest that rewrites 50 MiB/s arrives whole",
        scene: Scene::Fast,
        long: false,
        play: dirty,
    },
    Scenario {
        name: "dirty-stream",
        about: "the same in mode stream",
        scene: Scene::Stream,
        long: false,
        play: dirty,
    },
    Scenario {
        name: "dirty-opaque",
        about: "the same in mode opaque",
        scene: Scene::Opaque,
        long: false,
        play: dirty,
    },
    Scenario {
        name: "disk",
        about: "2 processors and a qcow2 under fsync load: no acknowledged block is lost",
        scene: Scene::Fast,
        long: false,
        play: disk,
    },
];

/// A Linux guest that runs.
pub(super) struct Guest {
    /// Its name.
    pub(super) vm: VmName,
    /// Its address.
    pub(super) ip: Ipv4Addr,
}

impl Guest {
    /// Starts one on host-a and waits until it answers.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub(super) fn start(stage: &mut Stage, linux: &Linux<'_>) -> Result<Self> {
        let spec = guests::spec(&stage.fleet, linux)?;
        Self::start_as(stage, &spec, linux.number)
    }

    /// Starts a guest of this spec, with the address of `number`.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(super) fn start_as(stage: &mut Stage, spec: &VmSpec, number: u8) -> Result<Self> {
        let vm = stage.start(spec, "host-a")?;
        let ip = stage.fleet.plan().guest(number);
        guests::wait_boot(ip).with_context(|| stage.console(&vm))?;
        Ok(Self { vm, ip })
    }

    /// What the guest says of itself under `key`.
    ///
    /// # Errors
    /// It does not answer, or not that.
    pub(super) fn says(&self, key: &str) -> Result<String> {
        let mut status = guests::control(self.ip, ANSWER)?.status().context("status")?;
        status.remove(key).with_context(|| format!("the guest's status has no {key}"))
    }

    /// A number that the guest says.
    ///
    /// # Errors
    /// As for [`Self::says`].
    pub(super) fn status(&self, key: &str) -> Result<u64> {
        Ok(self.says(key)?.parse()?)
    }

    /// The guest checks all its memory.
    ///
    /// # Errors
    /// What it finds.
    pub(super) fn verify(&self) -> Result<()> {
        let pages = guests::control(self.ip, CHECK)?.verify().context("the guest's memory")?;
        ensure!(pages > 0, "the guest has checked no page");
        Ok(())
    }
}

/// Moves a guest there and back, as often as asked for, and checks after each.
fn there_and_back(
    stage: &mut Stage,
    guest: &Guest,
    check: impl Fn(&Guest) -> Result<()>,
) -> Result<()> {
    let boot = guest.says("boot")?;
    let (mut total, mut blackout, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            let moved = stage.hop(&guest.vm, to)?;
            total.extend(moved.report.total_seconds);
            blackout.extend(moved.report.blackout_seconds);
            rounds.push(moved.report.rounds);
            check(guest).with_context(|| format!("after the move to {to}"))?;
        }
    }
    ensure!(guest.says("boot")? == boot, "the guest has booted again");
    stage.measure("total_seconds", total);
    stage.measure("blackout_seconds", blackout);
    stage.measure("rounds", rounds);
    Ok(())
}

fn fill(stage: &mut Stage) -> Result<()> {
    let guest = Guest::start(
        stage,
        &Linux {
            name: "fill",
            number: 11,
            memory: Bytes::mib(2048),
            vcpus: 1,
            roles: "fill:1200,beat",
            disks: Vec::new(),
        },
    )?;
    proc::until("1,200 MiB of content", Duration::from_secs(300), || {
        Ok((guest.status("filled_mib")? >= 1200).then_some(()))
    })?;
    there_and_back(stage, &guest, Guest::verify)
}

fn dirty(stage: &mut Stage) -> Result<()> {
    let guest = Guest::start(
        stage,
        &Linux {
            name: "dirty",
            number: 12,
            memory: Bytes::mib(512),
            vcpus: 1,
            roles: "dirty:50,beat",
            disks: Vec::new(),
        },
    )?;
    let begun = guest.status("dirtied_pages")?;
    proc::pause(Duration::from_secs(5))?;
    let rate = (guest.status("dirtied_pages")? - begun) as f64 / 256.0 / 5.0;
    stage.measure("dirty_mib_per_second", rate);
    there_and_back(stage, &guest, |guest| {
        let before = guest.status("dirtied_pages")?;
        guest.verify()?;
        proc::until("the guest rewrites on", ANSWER, || {
            Ok((guest.status("dirtied_pages")? > before).then_some(()))
        })
    })
}

fn disk(stage: &mut Stage) -> Result<()> {
    let file = stage.shared().join("disk.qcow2");
    specs::make_disk(&file, DiskFormat::Qcow2, Bytes::mib(128))?;
    let guest = Guest::start(
        stage,
        &Linux {
            name: "disk",
            number: 13,
            memory: Bytes::mib(512),
            vcpus: 2,
            roles: "fsync:2,beat",
            disks: vec![specs::disk("disk.qcow2", DiskFormat::Qcow2)?],
        },
    )?;
    there_and_back(stage, &guest, |guest| {
        let before = guest.status("disk")?;
        proc::until("further blocks on the disk", ANSWER, || {
            Ok((guest.status("disk")? > before + 20).then_some(()))
        })
    })?;
    let acknowledged = guests::control(guest.ip, ANSWER)?.acknowledged()?;
    stage.fleet.ask(async |c| c.stop(&guest.vm).await)?;
    stage.wait(&guest.vm, RunState::Stopped)?;
    let raw = stage.shared().join("disk.check.raw");
    let minute = Duration::from_secs(60);
    proc::output(Command::new("qemu-img").args(["check", "-q"]).arg(&file), minute)?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(&file).arg(&raw);
    proc::output(&mut convert, minute)?;
    let mut disk = File::open(&raw)?;
    let ring = Ring::linux(disk.metadata()?.len()).context("the disk is too small")?;
    let head = chain::check(&mut disk, &ring, acknowledged)?;
    std::fs::remove_file(&raw)?;
    stage.measure("blocks", head.counter);
    Ok(())
}
