//! What a host offers, and how its QEMUs are run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use types::{Bytes, PoolName};

use crate::{Accel, Retain};

/// The host's part of every VM's life; from the administrator, never from a peer.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// Directories with QEMU's firmware, where not the built-in ones.
    pub data_dirs: Vec<PathBuf>,
    /// `tcg` or `kvm`; found out by running a small guest when absent.
    pub accel: Option<String>,
    /// Sockets and pid files; private. Its path must be short: 107 bytes are the
    /// longest path of a unix socket.
    pub run_dir: PathBuf,
    /// Logs; private.
    pub state_dir: PathBuf,
    /// Guest memory: a tmpfs of our own, mounted when it is not there yet.
    pub memory_dir: PathBuf,
    /// Size of that tmpfs.
    pub memory_size: Bytes,
    /// What of it may hold the memory of VMs that have left.
    pub retain: Retain,
    /// Huge pages for guests, where the host has some.
    pub hugepages: Option<HugePages>,
    /// UEFI firmware; looked for in the usual places when absent.
    pub uefi: Option<UefiFiles>,
    /// Storage pools: name and directory.
    pub pools: BTreeMap<PoolName, PathBuf>,
    /// Pools of block devices: name and directory, such as `/dev/disk/by-id`.
    pub device_pools: BTreeMap<PoolName, PathBuf>,
    /// Bridges that NICs may be plugged into.
    pub bridges: Vec<PoolName>,
    /// Networks that QEMU makes itself: a VM reaches out, and is not reached.
    pub user_networks: Vec<PoolName>,
    /// The program that has the subcommand `carrier`.
    pub carrier: PathBuf,
}

/// Where guest memory of huge pages lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// A hugetlbfs of our own, mounted when it is not there yet.
    pub dir: PathBuf,
    /// Size of that hugetlbfs.
    pub size: Bytes,
}

/// OVMF's two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFiles {
    /// The code; read only.
    pub code: PathBuf,
    /// Variables of a VM that has never run; copied for each VM.
    pub vars: PathBuf,
}

/// What is known about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// QEMU's version, such as `10.0.2`.
    pub version: String,
    /// How guests are executed.
    pub accel: Accel,
    /// Memory for VMs.
    pub memory_total: Bytes,
    /// Of this, reserved.
    pub memory_used: Bytes,
    /// Memory for VMs in huge pages.
    pub hugepages_total: Bytes,
    /// Of this, reserved.
    pub hugepages_used: Bytes,
    /// BLAKE3 of the UEFI firmware's code, where the host has UEFI.
    pub uefi: Option<String>,
    /// Processors.
    pub cpus: u32,
    /// What this host cannot do that others can, a sentence each.
    pub lacks: Vec<String>,
}
