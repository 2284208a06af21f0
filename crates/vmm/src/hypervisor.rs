//! The host as a whole: what it can do, and what is planned on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use types::{FirmwareFile, VmSpec};

use crate::argv::no_mac;
use crate::firmware::{self, Uefi};
use crate::images::Images;
use crate::machines::Machines;
use crate::memory::MemoryStore;
use crate::pools::Marks;
use crate::record::InstanceRecord;
use crate::retained::Images as RetainedImages;
use crate::scope::Scopes;
use crate::taps::{self, Tap};
use crate::{Accel, Facts, HostConfig, VmmError, argv, dirs, roms};

/// The longest path of a unix socket, without its terminating zero.
const LONGEST_SOCKET: usize = 107;

/// QEMU on this host.
#[derive(Debug)]
pub struct Hypervisor {
    pub(crate) config: HostConfig,
    pub(crate) accel: Accel,
    pub(crate) machines: Machines,
    pub(crate) memory: MemoryStore,
    pub(crate) hugepages: Option<MemoryStore>,
    pub(crate) uefi: Option<Uefi>,
    pub(crate) scopes: Scopes,
    pub(crate) monitors: Monitors,
    pub(crate) boot_id: String,
    pub(crate) firmware: BTreeMap<String, FirmwareFile>,
    pub(crate) marks: Marks,
}

/// Monitors that are connected, by run directory: QEMU serves one connection at a
/// time, so whoever asks again gets the same one.
#[derive(Debug, Default)]
pub(crate) struct Monitors(Mutex<BTreeMap<PathBuf, (qmp::Client, qmp::Features)>>);

impl Monitors {
    pub(crate) fn get(&self, dir: &Path) -> Option<(qmp::Client, qmp::Features)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(dir).cloned()
    }

    pub(crate) fn keep(&self, dir: &Path, client: &qmp::Client, features: &qmp::Features) {
        let entry = (client.clone(), features.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned(), entry);
    }

    pub(crate) fn forget(&self, dir: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
    }
}

impl Hypervisor {
    /// Makes the directories, mounts the memory and asks QEMU what it is.
    ///
    /// # Errors
    /// A directory, the memory or the binary cannot be used.
    pub async fn open(config: HostConfig) -> Result<Self, VmmError> {
        dirs::private(&config.run_dir)?;
        dirs::private(&config.state_dir)?;
        let images = RetainedImages::new(&config.memory_dir, config.retain)
            .on_disk(&config.state_dir.join("retained"))?;
        let memory = MemoryStore::open(&config.memory_dir, config.memory_size, images)?;
        let hugepages = config.hugepages.as_ref().map(MemoryStore::open_huge).transpose()?;
        let boot_id = Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(boot_id).map_err(VmmError::io("read", boot_id))?;
        let accel = Accel::choose(&config).await?;
        Ok(Self {
            machines: Machines::ask(&config, accel).await?,
            accel,
            firmware: roms::find(&config).await?,
            marks: Marks::default(),
            scopes: Scopes::probe(),
            monitors: Monitors::default(),
            boot_id: boot_id.trim().to_owned(),
            uefi: Uefi::find(&config)?,
            memory,
            hugepages,
            config,
        })
    }

    /// What is known about the host now.
    pub fn facts(&self) -> Facts {
        self.memory.images().expire();
        let (memory_total, memory_used) = self.memory.usage();
        let huge = self.hugepages.as_ref().map(MemoryStore::usage);
        let (hugepages_total, hugepages_used) = huge.unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Facts {
            version: self.machines.version.clone(),
            accel: self.accel,
            memory_total,
            memory_used,
            hugepages_total,
            hugepages_used,
            uefi: self.uefi.as_ref().map(|uefi| uefi.digest.clone()),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            lacks: self.lacks(),
        }
    }

    /// What is missing here, in sentences.
    fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        if !rustix::process::geteuid().is_root() {
            let networks = "no root: no bridges, only networks of QEMU's own (user_networks), \
                            whose connections do not survive a migration";
            lacks.push(networks.to_owned());
        }
        lacks.extend(self.memory.lack());
        lacks.extend(self.scopes.lack().map(str::to_owned));
        lacks
    }

    /// The versioned name of a machine type, such as `pc-q35-7.2` for `q35`.
    ///
    /// # Errors
    /// This host's QEMU does not know it, or it is no `pc` and no `q35`.
    pub fn resolve_machine(&self, machine: &str) -> Result<String, VmmError> {
        self.machines.resolve(machine)
    }

    /// Checks that the host has everything a spec asks for, and names everything
    /// that will be made. Nothing is made yet.
    ///
    /// # Errors
    /// What is missing, and what would make it work.
    pub fn plan(&self, spec: &VmSpec, instance: &str) -> Result<InstanceRecord, VmmError> {
        spec.check()?;
        let vm = spec
            .uuid
            .ok_or_else(|| VmmError::missing("uuid", "an identity must have been chosen before"))?;
        if self.resolve_machine(&spec.machine)? != spec.machine {
            let problem = "must be versioned before it runs, so that it never drifts";
            return Err(VmmError::missing(format!("machine {}", spec.machine), problem));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if instance.is_empty() || instance.len() > 32 || !instance.bytes().all(plain) {
            let problem = "must be 1 to 32 lower-case letters and digits";
            return Err(VmmError::missing(format!("instance {instance:?}"), problem));
        }
        Images::find(&self.config, spec)?;
        if matches!(spec.firmware, types::Firmware::Uefi(_)) {
            firmware::required(self.uefi.as_ref())?;
        }
        for (index, nic) in spec.nics.iter().enumerate() {
            nic.mac.ok_or_else(|| no_mac(index))?;
            self.check_bridge(&nic.bridge)?;
        }
        let taps = spec.nics.iter().enumerate();
        let short = &vm.0.simple().to_string()[..8];
        let record = InstanceRecord {
            vm,
            instance: instance.to_owned(),
            spec: spec.clone(),
            pid: None,
            start_time: None,
            boot_id: self.boot_id.clone(),
            run_dir: self.config.run_dir.join(format!("{short}-{instance}")),
            log_dir: self.config.state_dir.join("vms").join(vm.to_string()),
            memory: self.memory_of(spec)?.path(&format!("{vm}-{instance}")),
            taps: taps
                .map(|(i, nic)| {
                    let user = self.config.user_networks.contains(&nic.bridge);
                    Tap::new(vm, instance, i, &nic.bridge).by_qemu(user)
                })
                .collect(),
            serial_start: 0,
            groups: self.scopes.directories(&format!("{vm}-{instance}")),
        };
        self.check_paths(&record)?;
        Ok(record)
    }

    /// Where a VM's memory lies.
    pub(crate) fn memory_of(&self, spec: &VmSpec) -> Result<&MemoryStore, VmmError> {
        if spec.memory_pages == types::MemoryPages::Normal {
            return Ok(&self.memory);
        }
        self.hugepages.as_ref().ok_or_else(|| {
            let problem = "this host offers no huge pages: reserve some (vm.nr_hugepages), and \
                           say in agent.toml how many VMs may use (hugepages_dir, hugepages_size)";
            VmmError::missing("memory_pages", problem)
        })
    }

    /// Whether a record was made since this host was booted.
    pub(crate) fn is_of_this_boot(&self, record: &InstanceRecord) -> bool {
        record.boot_id == self.boot_id
    }

    fn check_bridge(&self, bridge: &types::PoolName) -> Result<(), VmmError> {
        if self.config.user_networks.contains(bridge) {
            return Ok(());
        }
        let what = || format!("bridge {bridge}");
        if !self.config.bridges.contains(bridge) {
            return Err(VmmError::missing(what(), "not among this host's bridges: configure it"));
        }
        if !taps::exists(bridge.as_str()) {
            return Err(VmmError::missing(what(), "this host has no such device: make it"));
        }
        Ok(())
    }

    /// Everything that could be wrong with the paths, and with the spec's devices.
    fn check_paths(&self, record: &InstanceRecord) -> Result<(), VmmError> {
        let longest = record.migration_socket();
        if longest.as_os_str().len() > LONGEST_SOCKET {
            let problem = format!(
                "{} is longer than the {LONGEST_SOCKET} bytes a unix socket may have",
                longest.display()
            );
            return Err(VmmError::Config { option: "run_dir", problem });
        }
        self.argv(record, crate::Incoming::No).map(|_| ())
    }

    /// QEMU's arguments, made anew from the record.
    pub(crate) fn argv(
        &self,
        record: &InstanceRecord,
        incoming: crate::Incoming,
    ) -> Result<Vec<String>, VmmError> {
        argv::argv(&argv::Launch {
            record,
            images: &Images::find(&self.config, &record.spec)?,
            uefi: self.uefi.as_ref().map(|uefi| uefi.files.code.as_path()),
            data_dirs: &self.config.data_dirs,
            accel: self.accel,
            vhost: self.accel == Accel::Kvm && Path::new("/dev/vhost-net").exists(),
            incoming,
        })
    }
}
