//! A host as the planner sees it.

use types::{Bytes, HostId, HostOffer, PoolName};

/// What a host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Its agent has been heard lately.
    pub up: bool,
    /// Somebody wants nothing new on it.
    pub cordoned: bool,
    /// Memory that is neither used nor promised.
    pub free: Bytes,
    /// The same of memory in reserved huge pages.
    pub free_huge: Bytes,
    /// Digest of its UEFI firmware's code, if it has any.
    pub uefi: Option<String>,
    /// QEMU's version, as it says (`7.2.22`, `QEMU emulator version 10.0.2 (Debian …)`).
    pub qemu: String,
    /// How guests are executed: `kvm` or `tcg`.
    pub accel: String,
    /// Bridges a NIC may be plugged into.
    pub bridges: Vec<PoolName>,
    /// Storage pools.
    pub pools: Vec<PoolName>,
    /// Everything that is compared in detail. An agent of an earlier version does
    /// not tell it, and nothing is concluded from its absence.
    pub offer: Option<HostOffer>,
}
