//! VMs of every kind the spec knows go there and back: firmware, NUMA nodes, huge
//! pages, disks of all sorts.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::ClientError;
use api::body::StartRequest;
use guest::chain::{self, Ring};
use lab::images::TinyOptions;
use lab::specs;
use types::{
    Bytes, CloudInit, Code, DiskBus, DiskFormat, DiskSpec, Firmware, ImageRef, MemoryPages,
    NicSpec, NumaNode, OnIoError, RunState, SeedText, Topology, UefiSpec, VmSpec,
};

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene, tiny};
use crate::fleet::Order;
use crate::guests::{self, Linux};
use crate::proc;

/// Longest a guest may take to answer or to write on.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest a tool of this machine may take.
const TOOL: Duration = Duration::from_secs(60);

/// Kinds of machines.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "uefi",
        about: "a UEFI guest with cloud-init goes there and back, and boots again there",
        scene: Scene::Machines,
        long: false,
        play: uefi,
    },
    Scenario {
        name: "numa",
        about: "two NUMA nodes, each with memory and a processor, go there and back",
        scene: Scene::Machines,
        long: false,
        play: numa,
    },
    Scenario {
        name: "hugepages",
        about: "memory on huge pages goes there and back; too few are told",
        scene: Scene::Machines,
        long: false,
        play: hugepages,
    },
    Scenario {
        name: "devices",
        about: "three disks (qcow2, raw on SCSI, block device) and two NICs go there and back",
        scene: Scene::Machines,
        long: false,
        play: devices,
    },
];

fn linux<'a>(name: &'a str, number: u8, vcpus: u32, memory: u64, roles: &'a str) -> Linux<'a> {
    Linux { name, number, memory: Bytes::mib(memory), vcpus, roles, disks: Vec::new() }
}

/// Moves there and back; each time both sides' RAM and registers must be equal.
fn there_and_back(
    stage: &mut Stage,
    guest: &Guest,
    check: impl Fn(&Guest) -> Result<()>,
) -> Result<()> {
    let boot = guest.says("boot")?;
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            let order = Order { verify: true, ..Order::to(guest.vm.as_str(), to) };
            let moved = stage.hop_with(&order)?;
            stage.measure(&format!("total_seconds_{to}"), moved.report.total_seconds);
            check(guest).with_context(|| format!("after the move to {to}"))?;
        }
    }
    ensure!(guest.says("boot")? == boot, "the guest has booted again");
    Ok(())
}

/// Wants the guest to find itself in such a machine.
fn finds(guest: &Guest, wanted: &[(&str, &str)]) -> Result<BTreeMap<String, String>> {
    let machine = guests::control(guest.ip, ANSWER)?.machine().context("machine")?;
    for (key, value) in wanted {
        let found = machine.get(*key).map_or("nothing", String::as_str);
        ensure!(found == *value, "the guest finds {key}={found} and should find {value}");
    }
    Ok(machine)
}

fn uefi(stage: &mut Stage) -> Result<()> {
    let mut spec = guests::spec(&stage.fleet, &linux("uefi", 41, 4, 384, "fill:64,beat"))?;
    let vars = ImageRef { pool: specs::SHARED.parse()?, file: "uefi.vars".parse()? };
    spec.firmware = Firmware::Uefi(UefiSpec { vars });
    spec.topology = Some(Topology { sockets: 2, cores: 2, threads: 1 });
    let text = |text: &str| Some(SeedText::Text(text.to_owned()));
    spec.cloud_init = Some(CloudInit {
        user_data: text("#cloud-config\n"),
        meta_data: text("instance-id: seed-41\nlocal-hostname: uefi\n"),
        network_config: None,
    });
    let vars = stage.shared().join("uefi.vars");
    let guest = Guest::start_as(stage, &spec, 41)?;
    let shape = [("firmware", "uefi"), ("seed", "seed-41"), ("cpus", "4"), ("sockets", "2")];
    finds(&guest, &shape)?;
    ensure!(std::fs::read(&vars)?.iter().any(|b| *b != 0xff), "the firmware keeps no variable");
    there_and_back(stage, &guest, Guest::verify)?;
    // Code and variables are at work on the other host, too: it boots from them.
    stage.hop(&guest.vm, "host-b")?;
    let boot = guest.says("boot")?;
    guests::control(guest.ip, ANSWER)?.ask("reboot")?;
    proc::until("the guest's next boot", Duration::from_secs(180), || {
        Ok(guest.says("boot").is_ok_and(|now| now != boot).then_some(()))
    })
    .with_context(|| stage.console(&guest.vm))?;
    finds(&guest, &shape)?;
    stop(stage, &guest)?;
    Ok(std::fs::remove_file(vars)?)
}

fn numa(stage: &mut Stage) -> Result<()> {
    let mut spec = guests::spec(&stage.fleet, &linux("numa", 42, 2, 384, "fill:200,beat"))?;
    let node = |cpus: &str| -> Result<NumaNode> {
        Ok(NumaNode { memory: Bytes::mib(192), vcpus: cpus.parse()? })
    };
    spec.numa = vec![node("0")?, node("1")?];
    let guest = Guest::start_as(stage, &spec, 42)?;
    finds(&guest, &[("nodes", "2"), ("cpus", "2")])?;
    proc::until("200 MiB of content", Duration::from_secs(120), || {
        Ok((guest.status("filled_mib")? >= 200).then_some(()))
    })?;
    there_and_back(stage, &guest, Guest::verify)
}

fn hugepages(stage: &mut Stage) -> Result<()> {
    const MEMORY: Bytes = Bytes::mib(64);
    // Both hosts of the lab have their pages of the one kernel.
    let _reserved = HugePages::reserve(2 * MEMORY.0)?;
    proc::until("huge pages of both hosts", Duration::from_secs(30), || {
        let hosts = stage.fleet.ask(async |c| c.hosts().await)?;
        Ok(hosts.iter().all(|host| host.facts.hugepages >= MEMORY).then_some(()))
    })?;
    lab::images::tiny(&stage.shared().join(specs::tiny_file("huge")), &TinyOptions::default())?;
    let huge = MemoryPages::Huge;
    let spec = VmSpec { memory_pages: huge, ..specs::tiny("huge", MEMORY)? };
    let vm = stage.start(&spec, "host-a")?;
    tiny::beats_after(stage, &vm, 2).context("the tiny guest does not boot")?;
    for _ in 0..stage.rounds() {
        for to in ["host-b", "host-a"] {
            let beats = tiny::head(stage, &vm)?.beats;
            let order = Order { verify: true, ..Order::to(vm.as_str(), to) };
            stage.hop_with(&order)?;
            tiny::beats_after(stage, &vm, beats)?;
        }
    }
    tiny::whole(stage, &vm)?;
    // A VM for which too few are left is refused, and says of what there are too few.
    let large = VmSpec { memory_pages: huge, ..specs::tiny("large", Bytes::mib(256))? };
    stage.fleet.ask(async |c| c.create_vm(&large).await)?;
    let request = StartRequest { on: Some("host-a".parse()?), ..StartRequest::default() };
    let refused = stage.fleet.try_ask(async |c| c.start(&large.name, &request).await);
    match refused {
        Err(ClientError::Problem(p)) if p.code == Code::HugepagesMissing => {
            ensure!(p.detail.contains("huge pages"), "{p}");
        }
        other => bail!("a VM with too few huge pages: {other:?}"),
    }
    stage.fleet.ask(async |c| c.delete_vm(&large.name).await).map(drop)
}

fn devices(stage: &mut Stage) -> Result<()> {
    let (size, shared) = (Bytes::mib(64), stage.shared());
    specs::make_disk(&shared.join("d.qcow2"), DiskFormat::Qcow2, size)?;
    specs::make_disk(&shared.join("d.raw"), DiskFormat::Raw, size)?;
    let device = Loop::make(stage.fleet.dir(), "lun1", size)?;
    let mut spec = guests::spec(&stage.fleet, &linux("devices", 43, 2, 256, "fsync:5,beat"))?;
    let on = |pool: &str, file: &str, format, bus| -> Result<DiskSpec> {
        let (pool, file) = (pool.parse()?, file.parse()?);
        Ok(DiskSpec { pool, file, format, bus, on_io_error: OnIoError::Pause })
    };
    spec.disks = vec![
        on(specs::SHARED, "d.qcow2", DiskFormat::Qcow2, DiskBus::Virtio)?,
        on(specs::SHARED, "d.raw", DiskFormat::Raw, DiskBus::Scsi)?,
        on("devices", "lun1", DiskFormat::Raw, DiskBus::Virtio)?,
    ];
    let bridge = specs::BRIDGE.parse()?;
    spec.nics.push(NicSpec { mac: Some("52:54:00:4d:02:2b".parse()?), bridge });
    let guest = Guest::start_as(stage, &spec, 43)?;
    finds(&guest, &[("disks", "3"), ("nics", "2")])?;
    there_and_back(stage, &guest, |guest| {
        let mut control = guests::control(guest.ip, ANSWER)?;
        for disk in 0..3 {
            let before = control.acknowledged_by(disk)?;
            proc::until("further blocks on every disk", ANSWER, || {
                Ok((control.acknowledged_by(disk)? > before + 5).then_some(()))
            })?;
        }
        Ok(())
    })?;
    // As the guest counts them: virtio first.
    let mut control = guests::control(guest.ip, ANSWER)?;
    let acknowledged = [0, 1, 2].map(|disk| control.acknowledged_by(disk));
    drop(control);
    stop(stage, &guest)?;
    let raw = shared.join("d.check");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(shared.join("d.qcow2")).arg(&raw);
    proc::output(&mut convert, TOOL)?;
    let files = [raw.clone(), device.file.clone(), shared.join("d.raw")];
    for (file, acknowledged) in files.iter().zip(acknowledged) {
        let mut disk = File::open(file)?;
        let ring = Ring::linux(disk.metadata()?.len()).context("the disk is too small")?;
        let head = chain::check(&mut disk, &ring, acknowledged?)
            .with_context(|| file.display().to_string())?;
        stage.measure(&file.file_name().unwrap_or_default().to_string_lossy(), head.counter);
    }
    Ok(std::fs::remove_file(&raw)?)
}

fn stop(stage: &Stage, guest: &Guest) -> Result<()> {
    stage.fleet.ask(async |c| c.stop(&guest.vm).await)?;
    stage.wait(&guest.vm, RunState::Stopped)
}

/// Huge pages that the kernel has reserved for as long as this lives.
struct HugePages {
    before: String,
}

impl HugePages {
    const KERNEL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

    /// Sees to it that so many bytes are free.
    fn reserve(bytes: u64) -> Result<Self> {
        let file = |name: &str| Path::new(Self::KERNEL).join(name);
        let read = |name: &str| -> Result<u64> {
            let text = std::fs::read_to_string(file(name))
                .with_context(|| format!("this kernel has no huge pages: {}", Self::KERNEL))?;
            Ok(text.trim().parse()?)
        };
        let (all, free) = (read("nr_hugepages")?, read("free_hugepages")?);
        let reserved = Self { before: all.to_string() };
        let wanted = bytes >> 21;
        if free < wanted {
            std::fs::write(file("nr_hugepages"), (all + wanted - free).to_string())?;
        }
        let free = read("free_hugepages")?;
        ensure!(free >= wanted, "the kernel reserves {free} of {wanted} huge pages");
        Ok(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let file = Path::new(Self::KERNEL).join("nr_hugepages");
        if let Err(e) = std::fs::write(&file, &self.before) {
            eprintln!("error: {}: {e}", file.display());
        }
    }
}

/// A block device of every host: a loop device with a file behind it.
pub(super) struct Loop {
    /// The file behind it.
    pub(super) file: PathBuf,
    /// Its name in the pool `devices`.
    link: PathBuf,
    device: String,
}

impl Loop {
    fn make(lab: &Path, name: &str, size: Bytes) -> Result<Self> {
        let file = lab.join("shared").join(format!("{name}.img"));
        specs::make_disk(&file, DiskFormat::Raw, size)?;
        Self::on(lab, name, file)
    }

    /// Makes one of a file that is there.
    pub(super) fn on(lab: &Path, name: &str, file: PathBuf) -> Result<Self> {
        let mut losetup = Command::new("losetup");
        let device = proc::output(losetup.args(["--find", "--show", "--"]).arg(&file), TOOL)
            .context("a block device of a file (losetup) cannot be made on this machine")?;
        let (device, link) = (device.trim().to_owned(), lab.join("devices").join(name));
        let made = Self { file, link, device };
        std::os::unix::fs::symlink(&made.device, &made.link)?;
        Ok(made)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = proc::output(Command::new("losetup").args(["-d", &self.device]), TOOL);
        let removed =
            std::fs::remove_file(&self.link).and_then(|()| std::fs::remove_file(&self.file));
        if let Err(e) = detached.map(drop).and(removed.map_err(Into::into)) {
            eprintln!("error: {}: {e:#}", self.device);
        }
    }
}
