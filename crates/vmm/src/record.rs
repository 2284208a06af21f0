//! What must be journalled of an instance before anything of it is made.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::{BlockPlacement, VmId, VmSpec};

use crate::process::Identity;
use crate::taps::Tap;

/// The id of the memory backend, which is also the name of its RAM block in a
/// migration stream.
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
    /// Guest memory; removed at the end.
    pub memory: PathBuf,
    /// One for each NIC; removed at the end.
    pub taps: Vec<Tap>,
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

    /// The file that is the guest's memory.
    pub fn memory_file(&self) -> PathBuf {
        self.memory.clone()
    }

    /// Where each RAM block of the guest is placed.
    pub fn blocks(&self) -> Vec<BlockPlacement> {
        vec![BlockPlacement {
            block: RAM.to_owned(),
            file: self.memory_file(),
            offset: 0,
            length: self.spec.memory.0,
        }]
    }

    /// Everything the guest ever wrote to its first serial port.
    pub fn serial_log(&self) -> PathBuf {
        self.log_dir.join("serial.log")
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
