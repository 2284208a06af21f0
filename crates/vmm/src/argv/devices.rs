//! What hangs on the first PCI bus: disks, network interfaces and the small things.

use serde_json::{Value, json};
use types::{DiskBus, DiskFormat, DiskSpec, NicSpec, OnIoError, OnPanic};

use super::{Args, Bus, Launch, text};
use crate::VmmError;
use crate::images::DiskFile;
use crate::taps::Tap;

/// Slots of the first PCI bus; eight functions fit into each, so sixteen disks and
/// sixteen NICs always have their place, and nothing moves when one is added.
const DISK_SLOT: usize = 0x04;
const SEED_SLOT: usize = 0x06;
const SCSI_SLOT: usize = 0x07;
const NIC_SLOT: usize = 0x08;

/// Adds every device of the spec.
pub(super) fn add(args: &mut Args, bus: Bus, launch: &Launch<'_>) -> Result<(), VmmError> {
    let spec = &launch.record.spec;
    if spec.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) {
        let mut controller = json!({ "driver": "virtio-scsi-pci", "id": "scsi" });
        place(&mut controller, bus, SCSI_SLOT, 0);
        args.json("-device", &controller);
    }
    for (index, (disk, file)) in spec.disks.iter().zip(&launch.images.disks).enumerate() {
        // A slot's first function must be there for the guest to see the others.
        let before = spec.disks.iter().take(index).filter(|d| d.bus == disk.bus).count();
        add_disk(args, bus, (index, before), disk, file)?;
    }
    if spec.cloud_init.is_some() {
        add_seed(args, bus, launch)?;
    }
    for (index, (nic, tap)) in spec.nics.iter().zip(&launch.record.taps).enumerate() {
        add_nic(args, bus, index, nic, tap, launch.vhost)?;
    }
    if spec.on_panic != OnPanic::Ignore {
        args.json("-device", &json!({ "driver": "pvpanic" }));
    }
    Ok(())
}

/// Adds the disk of `index`, before which there are so many on its bus.
fn add_disk(
    args: &mut Args,
    bus: Bus,
    (index, before): (usize, usize),
    disk: &DiskSpec,
    file: &DiskFile,
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
                "driver": if file.device { "host_device" } else { "file" },
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
    match disk.on_io_error {
        // As QEMU does where nothing is said.
        OnIoError::PauseWhenFull => {}
        OnIoError::Pause => on_error(&mut device, "stop"),
        OnIoError::Report => on_error(&mut device, "report"),
    }
    match disk.bus {
        DiskBus::Virtio => {
            device["driver"] = json!("virtio-blk-pci");
            place(&mut device, bus, DISK_SLOT, before);
        }
        DiskBus::Scsi => {
            device["driver"] = json!("scsi-hd");
            device["bus"] = json!("scsi.0");
            device["scsi-id"] = json!(index);
        }
        DiskBus::Ide => {
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

fn on_error(device: &mut Value, action: &str) {
    device["werror"] = json!(action);
    device["rerror"] = json!(action);
}

/// The volume for cloud-init: a disk that cannot be written to.
fn add_seed(args: &mut Args, bus: Bus, launch: &Launch<'_>) -> Result<(), VmmError> {
    args.json(
        "-blockdev",
        &json!({
            "node-name": "seed",
            "driver": "raw",
            "read-only": true,
            "file": { "driver": "file", "filename": text(&launch.record.seed())? },
        }),
    );
    let mut device = json!({ "driver": "virtio-blk-pci", "id": "dev-seed", "drive": "seed" });
    place(&mut device, bus, SEED_SLOT, 0);
    args.json("-device", &device);
    Ok(())
}

pub(super) fn add_nic(
    args: &mut Args,
    bus: Bus,
    index: usize,
    nic: &NicSpec,
    tap: &Tap,
    vhost: bool,
) -> Result<(), VmmError> {
    let id = format!("net{index}");
    let netdev = if tap.user {
        json!({ "id": id, "type": "user" })
    } else {
        json!({
            "id": id,
            "type": "tap",
            "ifname": tap.name,
            "script": "no",
            "downscript": "no",
            "vhost": vhost,
        })
    };
    args.json("-netdev", &netdev);
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

/// A NIC whose address was not chosen yet.
pub(crate) fn no_mac(index: usize) -> VmmError {
    VmmError::missing(format!("nics[{index}].mac"), "an address must have been chosen before")
}

/// The fixed PCI address of a device.
fn place(device: &mut Value, bus: Bus, slot: usize, index: usize) {
    device["bus"] = json!(bus.name());
    device["addr"] = json!(format!("{:02x}.{}", slot + index / 8, index % 8));
    device["multifunction"] = json!(true);
}
