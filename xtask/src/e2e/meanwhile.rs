//! Guests that do something in the middle of a move: they reboot, power off, panic,
//! or their storage fails. At the end the VM is in the state that follows from that,
//! on one host, and the history tells it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::body::{HistoryQuery, VmView};
use lab::specs;
use types::{
    AttemptPhase, Bytes, DiskBus, DiskFormat, DiskSpec, MigrationReport, OnIoError, OnPanic,
    Outcome, RunState, VmName,
};

use super::linux::Guest;
use super::machines::Loop;
use super::stage::Stage;
use super::{Scenario, Scene, faults};
use crate::fleet::Order;
use crate::guests::{self, Linux};
use crate::proc;

/// Longest until everything about an attempt has settled.
const SETTLE: Duration = Duration::from_secs(120);
/// Longest a guest may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
const TOOL: Duration = Duration::from_secs(20);

/// What a guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Reboot,
    PowerOff,
    Panic,
    IoError,
}

/// Every phase in which something can be done to a move.
const PHASES: &[AttemptPhase] = &[
    AttemptPhase::Preparing,
    AttemptPhase::Copying,
    AttemptPhase::Switching,
    AttemptPhase::Activating,
    AttemptPhase::Cleaning,
];

macro_rules! scenarios {
    ($($name:literal, $about:literal, $scene:ident, $long:literal, $act:ident, $phases:expr;)*) => {
        /// Each act in the phases where it matters most; with `--long` in every phase.
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            scene: Scene::$scene,
            long: $long,
            play: |stage| play(stage, Act::$act, $phases),
        }),*];
    };
}

const COPYING: &[AttemptPhase] = &[AttemptPhase::Copying];
const CLAIMED: &[AttemptPhase] = &[AttemptPhase::Activating];

scenarios! {
    "reboot-old", "the guest reboots while it is copied: it arrives, rebooted",
        Slow, false, Reboot, COPYING;
    "poweroff-old", "the guest powers off while it is copied: it ends as stopped",
        Slow, false, PowerOff, COPYING;
    "panic-old", "the guest panics while it is copied: it stays, panicked",
        Slow, false, Panic, COPYING;
    "io-error-old", "the storage fails while the VM is copied: it stays, and goes on when told",
        Slow, false, IoError, COPYING;
    "poweroff-new", "the same with the newer QEMU, as it arrives",
        Newer, false, PowerOff, CLAIMED;
    "panic-new", "the same with the newer QEMU",
        Newer, false, Panic, COPYING;
    "reboot-every-old", "the guest reboots in each phase", Slow, true, Reboot, PHASES;
    "poweroff-every-old", "the guest powers off in each phase", Slow, true, PowerOff, PHASES;
    "panic-every-old", "the guest panics in each phase", Slow, true, Panic, PHASES;
    "io-error-every-old", "the storage fails in each phase", Slow, true, IoError, PHASES;
    "reboot-every-new", "reboots with the newer QEMU", Newer, true, Reboot, PHASES;
    "poweroff-every-new", "power-offs with the newer QEMU", Newer, true, PowerOff, PHASES;
    "panic-every-new", "panics with the newer QEMU", Newer, true, Panic, PHASES;
    "io-error-every-new", "storage that fails with the newer QEMU", Newer, true, IoError, PHASES;
}

fn play(stage: &mut Stage, act: Act, phases: &[AttemptPhase]) -> Result<()> {
    for phase in phases {
        let acted = once(stage, act, *phase).with_context(|| format!("{act:?} while {phase}"))?;
        stage.measure(&phase.to_string(), acted);
    }
    Ok(())
}

/// One move in which the guest acts; says what came of it.
fn once(stage: &mut Stage, act: Act, phase: AttemptPhase) -> Result<String> {
    let storage = (act == Act::IoError).then(|| Storage::make(stage)).transpose()?;
    let guest = start(stage, storage.is_some())?;
    let boot = guest.says("boot")?;
    let from = stage.owner(&guest.vm)?;
    let order = Order::to(guest.vm.as_str(), stage.not_owner(&guest.vm)?);
    let mut migration = stage.fleet.begin(&order)?;
    let hit = faults::reach(stage, &guest.vm, phase, &mut migration)?;
    match (act, &storage) {
        (Act::IoError, Some(storage)) => storage.fill()?,
        (Act::Reboot, _) => say(&guest, "reboot")?,
        (Act::PowerOff, _) => say(&guest, "poweroff")?,
        _ => say(&guest, "panic")?,
    }
    let report = migration.end()?.report;
    let view = settled(stage, &guest.vm, act)?;
    let owner = view.ownership.as_ref().context("nobody owns it")?.owner.to_string();
    let moved = report.outcome == Some(Outcome::Completed);
    ensure!(moved == (owner != from), "{owner} owns it, and the report says {report:?}");
    let history = history(stage, &guest.vm)?;
    match act {
        Act::Reboot => rebooted(&guest, &boot, &report)?,
        Act::PowerOff => powered_off(stage, &guest, &report, &history)?,
        Act::Panic => rests(&view, &report, &history, "guest-panicked", "the guest panicked")?,
        Act::IoError => {
            rests(&view, &report, &history, "io-error", "the VM stopped at an I/O error")?;
        }
    }
    if let Some(storage) = &storage {
        storage.repair()?;
        stage.fleet.ask(async |c| c.resume(&guest.vm).await)?;
        stage.wait(&guest.vm, RunState::Running)?;
        let before = guest.status("disk")?;
        proc::until("further blocks on the repaired disk", ANSWER, || {
            Ok((guest.status("disk")? > before).then_some(()))
        })?;
    }
    if view.state == Some(RunState::Paused) && act == Act::Panic {
        // What rests moves as it rests.
        stage.hop(&guest.vm, stage.not_owner(&guest.vm)?)?;
        let halted = stage.view(&guest.vm)?.halted;
        ensure!(halted.as_deref() == Some("guest-panicked"), "it arrived as {halted:?}");
    }
    stage.nothing_left(&guest.vm, stage.not_owner(&guest.vm)?)?;
    stage.clear()?;
    Ok(format!("acted while {hit}, {}", report.outcome.map_or_else(String::new, |o| o.to_string())))
}

fn start(stage: &mut Stage, with_disk: bool) -> Result<Guest> {
    let roles = if with_disk { "fsync:5,fill:64" } else { "fill:64" };
    let linux = Linux {
        name: "acts",
        number: 51,
        memory: Bytes::mib(192),
        vcpus: 1,
        roles,
        disks: Vec::new(),
    };
    let mut spec = guests::spec(&stage.fleet, &linux)?;
    spec.on_panic = OnPanic::Pause;
    if with_disk {
        spec.disks.push(DiskSpec {
            pool: "devices".parse()?,
            file: "weak".parse()?,
            format: DiskFormat::Raw,
            bus: DiskBus::Virtio,
            on_io_error: OnIoError::Pause,
        });
    }
    let guest = Guest::start_as(stage, &spec, linux.number)?;
    proc::until("64 MiB of content", SETTLE, || {
        let filled = guest.status("filled_mib")? >= 64;
        Ok((filled && (!with_disk || guest.status("disk")? > 0)).then_some(()))
    })?;
    Ok(guest)
}

/// Tells the guest what to do; it may be in the middle of its blackout, and does it
/// before or after. What it does may be quicker than its answer.
fn say(guest: &Guest, request: &str) -> Result<()> {
    let _ = guests::control(guest.ip, ANSWER)?.ask(request);
    Ok(())
}

/// Waits until no attempt holds the VM and it is in the state that follows from the act.
fn settled(stage: &Stage, vm: &VmName, act: Act) -> Result<VmView> {
    let mut last = None;
    let result = proc::until("the end of it all", SETTLE, || {
        let view = stage.view(vm)?;
        let free = view.ownership.as_ref().is_some_and(|o| o.attempt.is_none() && o.settled);
        let (state, halted) = (view.state, view.halted.is_some());
        let there = match act {
            Act::Reboot => state == Some(RunState::Running),
            Act::PowerOff => state == Some(RunState::Stopped) && view.desired == RunState::Stopped,
            Act::Panic | Act::IoError => state == Some(RunState::Paused) && halted,
        };
        last = Some(view.clone());
        Ok((free && there).then_some(view))
    });
    result.with_context(|| format!("last seen: {last:?}"))
}

fn history(stage: &Stage, vm: &VmName) -> Result<Vec<String>> {
    let query = HistoryQuery { vm: Some(vm.clone()), ..HistoryQuery::default() };
    let events = stage.fleet.ask(async |c| c.history(&query).await)?;
    Ok(events
        .into_iter()
        .map(|e| format!("{} {}", e.event, e.detail.unwrap_or_default()))
        .collect())
}

fn told(history: &[String], event: &str) -> Result<()> {
    let found = history.iter().any(|line| line.trim_end().starts_with(event));
    ensure!(found, "the history has no {event:?}: {history:#?}");
    Ok(())
}

fn rebooted(guest: &Guest, boot: &str, report: &MigrationReport) -> Result<()> {
    ensure!(report.outcome == Some(Outcome::Completed), "a reboot ended the move: {report:?}");
    proc::until("the guest's next boot", SETTLE, || {
        Ok(guest.says("boot").is_ok_and(|now| now != boot).then_some(()))
    })
}

fn powered_off(
    stage: &Stage,
    guest: &Guest,
    report: &MigrationReport,
    history: &[String],
) -> Result<()> {
    if report.outcome != Some(Outcome::Completed) {
        ensure!(report.outcome == Some(Outcome::Cancelled), "{report:?}");
        ensure!(report.reason.as_deref() == Some("the guest powered off"), "{report:?}");
    }
    told(history, "powered-off")?;
    for (_, host) in stage.fleet.plan().hosts() {
        let qemus = lab::processes(stage.fleet.dir(), host.as_str())?.qemus;
        ensure!(qemus.is_empty(), "{} is off, and {host} has {qemus:?}", guest.vm);
    }
    Ok(())
}

fn rests(
    view: &VmView,
    report: &MigrationReport,
    history: &[String],
    status: &str,
    reason: &str,
) -> Result<()> {
    ensure!(view.halted.as_deref() == Some(status), "it rests for {:?}", view.halted);
    if report.outcome != Some(Outcome::Completed) {
        ensure!(report.outcome == Some(Outcome::Failed), "{report:?}");
        let said = report.reason.as_deref().unwrap_or_default();
        ensure!(said.contains(reason) || said.contains(status), "the reason is {said:?}");
    }
    told(history, &format!("halted {status}"))
}

/// A disk on a file system that can be made full, and larger again.
struct Storage {
    folder: PathBuf,
    device: Option<Loop>,
}

impl Storage {
    fn make(stage: &Stage) -> Result<Self> {
        let folder = stage.fleet.dir().join("weak");
        std::fs::create_dir(&folder)?;
        let mut mount = Command::new("mount");
        proc::output(mount.args(["-t", "tmpfs", "-o", "size=48M", "weak"]).arg(&folder), TOOL)?;
        let file = folder.join("weak.img");
        specs::make_disk(&file, DiskFormat::Raw, Bytes::mib(32))?;
        let device = Loop::on(stage.fleet.dir(), "weak", file)?;
        Ok(Self { folder, device: Some(device) })
    }

    /// No block that was never written can be written any more.
    fn fill(&self) -> Result<()> {
        let mut last = None;
        // The guest may write between the look and the limit; then the limit is refused.
        for _ in 0..50 {
            let used = rustix::fs::statvfs(&self.folder)?;
            let used = (used.f_blocks - used.f_bfree) * used.f_frsize;
            match self.resize(&used.to_string()) {
                Ok(()) => return Ok(()),
                Err(e) => last = Some(e),
            }
        }
        Err(last.context("never tried")?)
    }

    fn repair(&self) -> Result<()> {
        self.resize("48M")
    }

    fn resize(&self, size: &str) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.arg("-o").arg(format!("remount,size={size}")).arg(&self.folder);
        proc::output(&mut mount, TOOL).map(drop)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        drop(self.device.take());
        let unmounted = proc::output(Command::new("umount").arg("-l").arg(&self.folder), TOOL);
        if let Err(e) =
            unmounted.map(drop).and(std::fs::remove_dir(&self.folder).map_err(Into::into))
        {
            eprintln!("error: {}: {e:#}", self.folder.display());
        }
    }
}
