//! A host of its own for a test: directories, memory, and what is left in them.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use types::{Bytes, VmSpec};
use vmm::{HostConfig, Hypervisor};

pub struct Host {
    pub dir: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn config(&self) -> HostConfig {
        let qemu = std::env::var_os("GODWIT_TEST_QEMU");
        let data = std::env::var_os("GODWIT_TEST_QEMU_DATA").unwrap_or_default();
        let dir = self.dir.path();
        HostConfig {
            qemu: qemu.map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from),
            data_dirs: std::env::split_paths(&data).filter(|d| *d != Path::new("")).collect(),
            accel: Some("tcg".into()),
            run_dir: dir.join("run"),
            state_dir: dir.join("state"),
            memory_dir: dir.join("memory"),
            memory_size: Bytes::mib(96),
            retain: vmm::Retain {
                age: std::time::Duration::from_secs(60),
                memory: Bytes(1 << 30),
                disk: Bytes(0),
            },
            hugepages: None,
            uefi: None,
            device_pools: BTreeMap::new(),
            pools: BTreeMap::from([("images".parse().unwrap(), dir.join("images"))]),
            bridges: vec!["br0".parse().unwrap()],
            user_networks: Vec::new(),
            carrier: dir.join("carrier.sh"),
        }
    }

    pub async fn open(&self) -> Hypervisor {
        Hypervisor::open(self.config()).await.unwrap()
    }

    /// Everything that is left in the run and memory directories.
    pub fn left(&self) -> Vec<PathBuf> {
        ["run", "memory"]
            .iter()
            .flat_map(|name| std::fs::read_dir(self.dir.path().join(name)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for Host {
    /// Also after a test that failed.
    fn drop(&mut self) {
        let dir = self.dir.path().as_os_str().as_bytes();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let mentions = |list: &str| {
                let text = std::fs::read(entry.path().join(list)).unwrap_or_default();
                text.windows(dir.len()).any(|part| part == dir)
            };
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && (mentions("cmdline") || mentions("environ"))
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        while unmount(self.dir.path().join("memory"), UnmountFlags::DETACH).is_ok() {}
    }
}

pub fn spec(hypervisor: &Hypervisor) -> VmSpec {
    VmSpec {
        machine: hypervisor.resolve_machine("q35").unwrap(),
        uuid: Some(types::VmId(uuid::Uuid::new_v4())),
        ..toml::from_str("name = 'test'\nmemory = '64MiB'").unwrap()
    }
}
