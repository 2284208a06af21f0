//! QEMU's command line, from a record and nothing else.
//!
//! What a user wrote stands in values only: names and MACs have types that let no
//! separator through, the CPU model and the machine were checked, the kernel's
//! command line is an argument of its own. Both sides of a migration get the same
//! devices at the same addresses.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use types::{DiskBus, DiskFormat, DiskSpec, NicSpec, SerialSpec};

use crate::images::{DiskFile, Images};
use crate::record::RAM;
use crate::{Accel, Incoming, InstanceRecord, VmmError};

/// Slots of the first PCI bus; eight functions fit into each, so sixteen disks and
/// sixteen NICs always have their place, and nothing moves when one is added.
const DISK_SLOT: usize = 0x04;
const NIC_SLOT: usize = 0x08;

/// What a command line is made of.
pub(crate) struct Launch<'a> {
    pub(crate) record: &'a InstanceRecord,
    pub(crate) images: &'a Images,
    pub(crate) data_dirs: &'a [PathBuf],
    pub(crate) accel: Accel,
    /// Whether the kernel moves the packets.
    pub(crate) vhost: bool,
    pub(crate) incoming: Incoming,
}

/// The arguments, without the program.
pub(crate) fn argv(launch: &Launch<'_>) -> Result<Vec<String>, VmmError> {
    let mut args = Args(Vec::new());
    machine(&mut args, launch)?;
    monitor(&mut args, launch)?;
    serial(&mut args, launch)?;
    boot(&mut args, launch)?;
    let spec = &launch.record.spec;
    let bus = Bus::of(&spec.machine)?;
    for (index, (disk, file)) in spec.disks.iter().zip(&launch.images.disks).enumerate() {
        add_disk(&mut args, bus, index, disk, file, spec)?;
    }
    for (index, (nic, tap)) in spec.nics.iter().zip(&launch.record.taps).enumerate() {
        add_nic(&mut args, bus, index, nic, &tap.name, launch.vhost)?;
    }
    Ok(args.0)
}

struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn option(&mut self, flag: &str, value: impl Into<String>) {
        self.0.extend([flag.to_owned(), value.into()]);
    }

    fn json(&mut self, flag: &str, value: &Value) {
        self.option(flag, value.to_string());
    }
}

/// The first PCI bus of a machine, and what hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    Q35,
    Pc,
}

impl Bus {
    /// Told by the machine's name.
    pub(crate) fn of(machine: &str) -> Result<Self, VmmError> {
        if machine.starts_with("pc-q35-") {
            Ok(Self::Q35)
        } else if machine.starts_with("pc-i440fx-") {
            Ok(Self::Pc)
        } else {
            Err(VmmError::missing(
                format!("machine {machine}"),
                "must be q35, pc or a version of them, such as pc-q35-7.2",
            ))
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Q35 => "pcie.0",
            Self::Pc => "pci.0",
        }
    }

    /// Bus and unit of the `index`th IDE disk; `None` when all places are taken.
    fn ide(self, index: usize) -> Option<(String, usize)> {
        match self {
            Self::Q35 => (index < 6).then(|| (format!("ide.{index}"), 0)),
            Self::Pc => (index < 4).then(|| (format!("ide.{}", index / 2), index % 2)),
        }
    }
}

fn machine(args: &mut Args, launch: &Launch<'_>) -> Result<(), VmmError> {
    let record = launch.record;
    let spec = &record.spec;
    for dir in launch.data_dirs {
        args.option("-L", text(dir)?);
    }
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.option("-name", format!("guest={},debug-threads=on", escape(spec.name.as_str())));
    args.option("-uuid", record.vm.to_string());
    args.option("-smbios", format!("type=1,serial={}", record.vm));
    args.option(
        "-machine",
        format!("{},accel={},memory-backend={RAM}", escape(&spec.machine), launch.accel),
    );
    args.json(
        "-object",
        &json!({
            "qom-type": "memory-backend-file",
            "id": RAM,
            "size": spec.memory.0,
            "mem-path": text(&record.memory)?,
            "share": true,
        }),
    );
    args.option("-m", format!("{}M", spec.memory.0 >> 20));
    args.option("-smp", spec.vcpus.to_string());
    args.option("-cpu", spec.cpu_model.as_str());
    args.option("-vga", "none");
    args.option("-display", "none");
    args.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    // Nothing is executed before the agent says so.
    args.flag("-S");
    if launch.incoming == Incoming::Yes {
        args.option("-incoming", "defer");
    }
    args.option("-pidfile", text(&record.pid_file())?);
    Ok(())
}

fn monitor(args: &mut Args, launch: &Launch<'_>) -> Result<(), VmmError> {
    let socket = escape(&text(&launch.record.qmp_socket())?);
    args.option("-chardev", format!("socket,id=qmp,path={socket},server=on,wait=off"));
    args.option("-mon", "chardev=qmp,mode=control");
    Ok(())
}

fn serial(args: &mut Args, launch: &Launch<'_>) -> Result<(), VmmError> {
    match launch.record.spec.serial {
        SerialSpec::Log => {
            let log = escape(&text(&launch.record.serial_log())?);
            args.option("-chardev", format!("file,id=serial0,path={log},append=on"));
            args.option("-serial", "chardev:serial0");
        }
        SerialSpec::None => args.option("-serial", "none"),
    }
    Ok(())
}

fn boot(args: &mut Args, launch: &Launch<'_>) -> Result<(), VmmError> {
    let Some(boot) = &launch.record.spec.boot else { return Ok(()) };
    if let Some(kernel) = &launch.images.kernel {
        args.option("-kernel", text(kernel)?);
    }
    if let Some(initrd) = &launch.images.initrd {
        args.option("-initrd", text(initrd)?);
    }
    if !boot.cmdline.is_empty() {
        args.option("-append", boot.cmdline.as_str());
    }
    Ok(())
}

fn add_disk(
    args: &mut Args,
    bus: Bus,
    index: usize,
    disk: &DiskSpec,
    file: &DiskFile,
    spec: &types::VmSpec,
) -> Result<(), VmmError> {
    let node = format!("disk{index}");
    let cache = json!({ "direct": file.direct });
    args.json(
        "-blockdev",
        &json!({
            "node-name": node,
            "driver": match disk.format { DiskFormat::Raw => "raw", DiskFormat::Qcow2 => "qcow2" },
            "cache": cache,
            "file": {
                "driver": "file",
                "filename": text(&file.path)?,
                "aio": "threads",
                "cache": cache,
            },
        }),
    );
    let mut device = json!({
        "id": format!("dev-{node}"),
        "drive": node,
        "bootindex": index + 1,
    });
    match disk.bus {
        DiskBus::Virtio => {
            device["driver"] = json!("virtio-blk-pci");
            place(&mut device, bus, DISK_SLOT, index);
        }
        DiskBus::Ide => {
            let before = spec.disks.iter().take(index).filter(|d| d.bus == DiskBus::Ide).count();
            let (ide, unit) = bus.ide(before).ok_or_else(|| {
                let what = format!("disks[{index}].bus");
                VmmError::missing(what, "no place is left on the IDE bus: use virtio")
            })?;
            device["driver"] = json!("ide-hd");
            device["bus"] = json!(ide);
            device["unit"] = json!(unit);
        }
    }
    args.json("-device", &device);
    Ok(())
}

fn add_nic(
    args: &mut Args,
    bus: Bus,
    index: usize,
    nic: &NicSpec,
    tap: &str,
    vhost: bool,
) -> Result<(), VmmError> {
    let id = format!("net{index}");
    args.json(
        "-netdev",
        &json!({
            "id": id,
            "type": "tap",
            "ifname": tap,
            "script": "no",
            "downscript": "no",
            "vhost": vhost,
        }),
    );
    let mac = nic.mac.ok_or_else(|| no_mac(index))?;
    let mut device = json!({
        "driver": "virtio-net-pci",
        "id": format!("dev-{id}"),
        "netdev": id,
        "mac": mac,
        "romfile": "",
    });
    place(&mut device, bus, NIC_SLOT, index);
    args.json("-device", &device);
    Ok(())
}

pub(crate) fn no_mac(index: usize) -> VmmError {
    VmmError::missing(format!("nics[{index}].mac"), "an address must have been chosen before")
}

/// The fixed PCI address of a device.
fn place(device: &mut Value, bus: Bus, slot: usize, index: usize) {
    device["bus"] = json!(bus.name());
    device["addr"] = json!(format!("{:02x}.{}", slot + index / 8, index % 8));
    device["multifunction"] = json!(true);
}

/// Paths are the administrator's; one that is no UTF-8 cannot be told to QEMU.
fn text(path: &Path) -> Result<String, VmmError> {
    path.to_str().map(str::to_owned).ok_or_else(|| VmmError::Config {
        option: "path",
        problem: format!("{} is not UTF-8", path.display()),
    })
}

/// Commas separate options; a doubled one is a comma.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests;
