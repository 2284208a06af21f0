//! What must be journalled of an instance before anything of it is made.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::{BlockPlacement, Firmware, MemoryPages, VmId, VmSpec};

use crate::process::Identity;
use crate::taps::Tap;

/// The id of the one memory backend, which is also the name of its RAM block in a
/// migration stream. With NUMA nodes each has a backend: `ram-node0`, …
pub(crate) const RAM: &str = "pc.ram";

/// One QEMU of a VM: everything that is made for it, known beforehand, so that
/// whoever reads it after a crash can find it or remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceRecord {
    /// The VM.
    pub vm: VmId,
    /// Tells this QEMU from earlier and later ones of the VM.
    pub instance: String,
    /// The VM's spec; its machine type is versioned.
    pub spec: VmSpec,
    /// QEMU's process id, once it runs.
    pub pid: Option<u32>,
    /// Start of that process in clock ticks after boot.
    pub start_time: Option<u64>,
    /// The boot of the host in which the record was made; nothing outlives it.
    pub boot_id: String,
    /// Sockets and pid files; removed at the end.
    pub run_dir: PathBuf,
    /// Logs; they stay.
    pub log_dir: PathBuf,
    /// Guest memory, or the beginning of its files' paths; removed at the end.
    pub memory: PathBuf,
    /// One for each NIC; removed at the end.
    pub taps: Vec<Tap>,
    /// Length of the serial log when QEMU was started, in bytes: what this QEMU's
    /// guest writes begins there.
    #[serde(default)]
    pub serial_start: u64,
    /// Control groups of QEMU and carrier, where systemd makes none; removed at the end.
    pub groups: Vec<PathBuf>,
}

impl InstanceRecord {
    /// Unix socket between QEMU and the local carrier.
    pub fn migration_socket(&self) -> PathBuf {
        self.run_dir.join("migration")
    }

    /// Unix socket on which the carrier listens for its agent.
    pub fn carrier_control(&self) -> PathBuf {
        self.run_dir.join("carrier")
    }

    /// QEMU's monitor. It serves one connection at a time.
    pub fn qmp_socket(&self) -> PathBuf {
        self.run_dir.join("qmp")
    }

    /// The files that are the guest's memory, in the order of its blocks.
    pub fn memory_files(&self) -> Vec<PathBuf> {
        self.blocks().into_iter().map(|row| row.file).collect()
    }

    /// Where each RAM block of the guest is placed.
    pub fn blocks(&self) -> Vec<BlockPlacement> {
        let row = |block: String, file, length| BlockPlacement { block, file, offset: 0, length };
        if self.spec.numa.is_empty() {
            return vec![row(RAM.to_owned(), self.memory.clone(), self.spec.memory.0)];
        }
        let node = |(i, node): (usize, &types::NumaNode)| {
            let mut file = self.memory.clone().into_os_string();
            file.push(format!("-node{i}"));
            row(format!("ram-node{i}"), file.into(), node.memory.0)
        };
        self.spec.numa.iter().enumerate().map(node).collect()
    }

    /// Guest memory lies on reserved huge pages.
    pub fn is_huge(&self) -> bool {
        self.spec.memory_pages == MemoryPages::Huge
    }

    /// Boots with UEFI.
    pub(crate) fn is_uefi(&self) -> bool {
        matches!(self.spec.firmware, Firmware::Uefi(_))
    }

    /// The volume that cloud-init reads; made of the spec and nothing else.
    pub(crate) fn seed(&self) -> PathBuf {
        self.run_dir.join("seed.iso")
    }

    /// Everything the guest ever wrote to its first serial port.
    pub fn serial_log(&self) -> PathBuf {
        self.log_dir.join("serial.log")
    }

    /// What is typed at the first serial port goes there. It serves one connection
    /// at a time, which must take what the guest writes.
    pub fn console_socket(&self) -> PathBuf {
        self.run_dir.join("console")
    }

    pub(crate) fn qemu_log(&self) -> PathBuf {
        self.log_dir.join("qemu.log")
    }

    pub(crate) fn carrier_log(&self) -> PathBuf {
        self.log_dir.join("carrier.log")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run_dir.join("qemu.pid")
    }

    pub(crate) fn carrier_pid_file(&self) -> PathBuf {
        self.run_dir.join("carrier.pid")
    }

    /// Name of the VM's scope and of its memory file.
    pub(crate) fn full_name(&self) -> String {
        format!("{}-{}", self.vm, self.instance)
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(Identity { pid: self.pid?, started: self.start_time? })
    }
}
