//! QEMU's command line, from a record and nothing else.
//!
//! What a user wrote stands in values only: names and MACs have types that let no
//! separator through, the CPU model and the machine were checked, the kernel's
//! command line is an argument of its own. Both sides of a migration get the same
//! devices at the same addresses.

mod devices;
mod memory;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use types::{OnPanic, SerialSpec};

pub(crate) use self::devices::no_mac;
use crate::images::Images;
use crate::{Accel, Incoming, InstanceRecord, VmmError, firmware};

/// What a command line is made of.
pub(crate) struct Launch<'a> {
    pub(crate) record: &'a InstanceRecord,
    pub(crate) images: &'a Images,
    /// The code of the host's UEFI firmware.
    pub(crate) uefi: Option<&'a Path>,
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
    memory::add(&mut args, launch.record)?;
    monitor(&mut args, launch)?;
    serial(&mut args, launch)?;
    boot(&mut args, launch)?;
    let bus = Bus::of(&launch.record.spec.machine)?;
    devices::add(&mut args, bus, launch)?;
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
    args.option("-machine", machine_options(launch));
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
    // A guest that powers off leaves its QEMU standing: the agent sees what happened
    // and ends it. One that panics stands still, where it has a device to say so.
    let panic = match spec.on_panic {
        OnPanic::Ignore => "",
        OnPanic::Pause => ",panic=pause",
    };
    args.option("-action", format!("shutdown=pause{panic}"));
    Ok(())
}

/// The machine, and the flash memory that its firmware is in.
fn machine_options(launch: &Launch<'_>) -> String {
    let record = launch.record;
    let mut options = format!("{},accel={}", escape(&record.spec.machine), launch.accel);
    if let Some(block) = memory::only_block(record) {
        options += &format!(",memory-backend={block}");
    }
    if record.is_uefi() {
        options += ",pflash0=uefi-code,pflash1=uefi-vars";
    }
    options
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
        SerialSpec::Console => {
            let log = escape(&text(&launch.record.serial_log())?);
            let socket = escape(&text(&launch.record.console_socket())?);
            // Without somebody connected what the guest writes goes to the log alone.
            let options = format!("path={socket},server=on,wait=off,logfile={log},logappend=on");
            args.option("-chardev", format!("socket,id=serial0,{options}"));
            args.option("-serial", "chardev:serial0");
        }
        SerialSpec::None => args.option("-serial", "none"),
    }
    Ok(())
}

fn boot(args: &mut Args, launch: &Launch<'_>) -> Result<(), VmmError> {
    if let Some(vars) = &launch.images.vars {
        let code = launch.uefi.ok_or_else(firmware::missing)?;
        for (node, file, read_only) in [("uefi-code", code, true), ("uefi-vars", vars, false)] {
            let file = json!({ "driver": "file", "filename": text(file)? });
            let node = json!({
                "node-name": node, "driver": "raw", "read-only": read_only, "file": file,
            });
            args.json("-blockdev", &node);
        }
    }
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
