//! A VM's spec, as users write it in TOML and as the store keeps it.
//!
//! Records of earlier versions load: what was added since has a default, and a
//! field at its default is not written, so that earlier versions read it too.

mod check;
mod disk;
mod numa;
mod seed;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::check::SpecError;
pub use self::disk::{DiskBus, DiskFormat, DiskSpec, OnIoError};
pub use self::numa::{CpuSet, NumaNode, Topology};
pub use self::seed::{CloudInit, SeedText};
use crate::{Bytes, FileName, MacAddr, OwnerName, PoolName, Tier, VmId, VmName};

/// Everything that makes a VM the machine it is. Identity (name, UUID, MACs,
/// machine type) never changes in a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Unique name.
    pub name: VmName,
    /// Identity; made at creation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<VmId>,
    /// Whose it is. Nothing is ever shared between VMs of different owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// How much depends on it: `critical`, `secondary` (default), `noncritical`, or
    /// a site's own word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tier: Tier,
    /// Virtual processors, 1 to 255.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Guest memory, a multiple of 2 MiB.
    pub memory: Bytes,
    /// The host's pages that guest memory lies on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_pages: MemoryPages,
    /// QEMU CPU model with optional features (`qemu64`, `Skylake-Server-v4`, `host`).
    #[serde(default = "default_cpu")]
    pub cpu_model: String,
    /// QEMU machine type. `q35` or `pc` is replaced by its versioned name at the
    /// first start, so that the machine never drifts.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// The first serial port.
    #[serde(default)]
    pub serial: SerialSpec,
    /// What becomes of the VM when its guest's kernel gives up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_panic: OnPanic,
    /// How the processors are grouped; each a socket of its own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// What the VM boots with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub firmware: Firmware,
    /// Boot a kernel directly; without it, the firmware boots the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootSpec>,
    /// What cloud-init in the guest is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// Words of the users' own, for selecting and grouping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// NUMA nodes, in the order the guest sees them; one with everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NumaNode>,
    /// Disks, in the order the guest sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
    /// Network interfaces, in the order the guest sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<NicSpec>,
}

impl VmSpec {
    /// A VM of one processor that has nothing but memory.
    pub fn new(name: VmName, memory: Bytes) -> Self {
        Self {
            name,
            uuid: None,
            owner: None,
            tier: Tier::default(),
            vcpus: one(),
            memory,
            memory_pages: MemoryPages::default(),
            cpu_model: default_cpu(),
            machine: default_machine(),
            serial: SerialSpec::default(),
            on_panic: OnPanic::default(),
            topology: None,
            firmware: Firmware::default(),
            boot: None,
            cloud_init: None,
            labels: BTreeMap::new(),
            numa: Vec::new(),
            disks: Vec::new(),
            nics: Vec::new(),
        }
    }
}

/// The host's pages that guest memory lies on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemoryPages {
    /// Pages of 4 KiB, merged by the kernel where it can.
    #[default]
    #[serde(rename = "normal")]
    Normal,
    /// Reserved huge pages of 2 MiB (hugetlbfs).
    #[serde(rename = "2MiB")]
    Huge,
}

/// What becomes of the VM when its guest's kernel gives up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnPanic {
    /// Nobody is told: the guest has no device for it.
    #[default]
    Ignore,
    /// The VM stands still as it is, to be looked at.
    Pause,
}

/// What the VM boots with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Firmware {
    /// SeaBIOS, as QEMU brings it.
    #[default]
    Bios,
    /// OVMF: its code is the host's, its variables are the VM's.
    Uefi(UefiSpec),
}

/// What UEFI firmware keeps of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UefiSpec {
    /// The variables' file, on storage that every host of the VM shares; made at
    /// the first start when it is not there.
    pub vars: ImageRef,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A file of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRef {
    /// The pool.
    pub pool: PoolName,
    /// The file in it.
    pub file: FileName,
}

/// Direct kernel boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootSpec {
    /// The kernel.
    pub kernel: ImageRef,
    /// The initial RAM file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<ImageRef>,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
}

/// A network interface (virtio-net).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// Its address; made at creation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The host's bridge it is plugged into (same character rules as a pool).
    pub bridge: PoolName,
}

/// What the first serial port is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SerialSpec {
    /// `godwit vm console`, and a log file on the host (`serial.log` in the VM's
    /// directory).
    #[default]
    Console,
    /// The log file alone; nobody can type.
    Log,
    /// Nothing.
    None,
}

fn one() -> u32 {
    1
}
fn default_cpu() -> String {
    "qemu64".to_owned()
}
fn default_machine() -> String {
    "q35".to_owned()
}

#[cfg(test)]
mod tests;
