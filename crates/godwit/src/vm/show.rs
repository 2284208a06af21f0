//! VMs for people.

use api::body::VmView;
use types::{DiskFormat, RunState};

use crate::colour::Tone;
use crate::table::{Cell, Table, fields, or_dash};

/// One line a VM.
pub(crate) fn list(vms: &[VmView]) -> Table {
    let mut table =
        Table::new(["NAME", "STATE", "HOST", "VCPUS", "MEMORY", "NOTE", "MACHINE", "UUID"])
            .narrow(6);
    for vm in vms {
        table.row([
            vm.spec.name.to_string().into(),
            Cell::new(state(vm), tone(vm)),
            owner(vm).into(),
            vm.spec.vcpus.to_string().into(),
            vm.spec.memory.to_string().into(),
            note(vm).into(),
            vm.spec.machine.clone().into(),
            or_dash(vm.spec.uuid).into(),
        ]);
    }
    table
}

/// Everything of a VM.
pub(crate) fn one(vm: &VmView) -> String {
    let spec = &vm.spec;
    let mut lines = vec![
        ("name", spec.name.to_string()),
        ("uuid", or_dash(spec.uuid)),
        ("state", state(vm)),
        ("asked for", vm.desired.to_string()),
        ("host", owner(vm)),
        ("vcpus", spec.vcpus.to_string()),
        ("memory", spec.memory.to_string()),
        ("cpu model", spec.cpu_model.clone()),
        ("machine", spec.machine.clone()),
    ];
    if let Some(boot) = &spec.boot {
        lines.push(("kernel", format!("{}/{}", boot.kernel.pool, boot.kernel.file)));
    }
    for disk in &spec.disks {
        let format = match disk.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        lines.push(("disk", format!("{}/{} ({format})", disk.pool, disk.file)));
    }
    for nic in &spec.nics {
        lines.push(("nic", format!("{} on {}", or_dash(nic.mac), nic.bridge)));
    }
    if let Some(ownership) = &vm.ownership {
        lines.push(("epoch", ownership.epoch.to_string()));
        lines.extend(ownership.attempt.map(|attempt| ("migration", attempt.to_string())));
    }
    lines.extend(vm.halted.clone().map(|why| ("rests for", why)));
    lines.extend(vm.error.clone().map(|error| ("error", error)));
    fields(&lines)
}

/// Where and how a VM is, in a sentence.
pub(crate) fn sentence(vm: &VmView) -> String {
    let name = &vm.spec.name;
    match (vm.state, &vm.ownership) {
        (Some(RunState::Stopped) | None, _) => format!("{name} is stopped\n"),
        (Some(state), Some(ownership)) => format!("{name} is {state} on {}\n", ownership.owner),
        (Some(state), None) => format!("{name} is {state}\n"),
    }
}

fn state(vm: &VmView) -> String {
    match (vm.state, &vm.ownership) {
        (Some(state), _) => state.to_string(),
        // Never started, so nothing runs.
        (None, None) => RunState::Stopped.to_string(),
        (None, Some(_)) => "unknown".to_owned(),
    }
}

fn tone(vm: &VmView) -> Tone {
    match (vm.state, &vm.ownership) {
        (Some(RunState::Running), _) => Tone::Good,
        (Some(RunState::Paused), _) => Tone::Odd,
        (Some(RunState::Stopped), _) | (None, None) => Tone::Plain,
        (None, Some(_)) => Tone::Bad,
    }
}

fn owner(vm: &VmView) -> String {
    or_dash(vm.ownership.as_ref().map(|ownership| &ownership.owner))
}

fn note(vm: &VmView) -> String {
    if let Some(error) = &vm.error {
        return error.clone();
    }
    if let Some(why) = &vm.halted {
        return why.clone();
    }
    match &vm.ownership {
        Some(ownership) if ownership.attempt.is_some() => "migrates".to_owned(),
        _ => String::new(),
    }
}
