//! What a host offers to VMs, as its agent finds it: whatever has to be equal, or
//! at least as much, on the host that a VM moves to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, HostId, PoolName};

/// What a host offers. An agent of an earlier version sends none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostOffer {
    /// The kernel's random id of this boot: hosts with the same one are one machine.
    pub boot_id: String,
    /// Versioned machine types that its QEMU knows.
    pub machines: Vec<String>,
    /// The processor that its QEMU can show to a guest.
    pub cpu: CpuOffer,
    /// Firmware and option ROMs that its QEMU loads, by file name.
    pub firmware: BTreeMap<String, FirmwareFile>,
    /// Largest frames that its bridges carry, in bytes.
    pub mtu: BTreeMap<PoolName, u32>,
    /// Its storage pools.
    pub pools: BTreeMap<PoolName, PoolOffer>,
    /// Memory that the kernel could give to a new VM, whatever the size of the
    /// memory file system; absent where the kernel does not tell.
    pub memory_available: Option<Bytes>,
}

/// A processor, as QEMU's answer to `query-cpu-model-expansion` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CpuOffer {
    /// `GenuineIntel`, `AuthenticAMD`, …
    pub vendor: String,
    /// Properties of the model `host` (`max` where guests are emulated) that are on.
    pub features: Vec<String>,
    /// CPU models that its QEMU knows by name.
    pub models: Vec<String>,
}

/// A file with firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirmwareFile {
    /// Its size in bytes, which a migration requires to be equal.
    pub bytes: u64,
    /// BLAKE3 of its content, in hexadecimal.
    pub digest: String,
}

/// A storage pool, as one host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolOffer {
    /// Files in it can be opened by-passing the page cache.
    pub direct: bool,
    /// What this host has lately written into the pool, the newest first. Empty
    /// where it may not write.
    pub nonces: Vec<String>,
    /// What it finds there of other hosts.
    pub seen: BTreeMap<HostId, String>,
}
