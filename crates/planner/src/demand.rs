//! What a VM asks of a host.

use types::{Bytes, Code, Firmware, MemoryPages, PoolName, Problem, VmName, VmSpec};

use crate::{Host, machine};

/// What a VM asks of the host it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The VM, for messages.
    pub vm: VmName,
    /// Its memory.
    pub memory: Bytes,
    /// Its memory must lie on reserved huge pages.
    pub huge: bool,
    /// It boots with UEFI.
    pub uefi: bool,
    /// Its machine type.
    pub machine: String,
    /// Bridges of its NICs.
    pub bridges: Vec<PoolName>,
    /// Pools of its kernel and disks.
    pub pools: Vec<PoolName>,
}

impl From<&VmSpec> for Demand {
    fn from(spec: &VmSpec) -> Self {
        let boot = spec.boot.iter().flat_map(|b| [Some(&b.kernel), b.initrd.as_ref()]).flatten();
        let mut pools: Vec<PoolName> =
            boot.map(|i| &i.pool).chain(spec.disks.iter().map(|d| &d.pool)).cloned().collect();
        let mut bridges: Vec<PoolName> = spec.nics.iter().map(|n| n.bridge.clone()).collect();
        if let Firmware::Uefi { vars } = &spec.firmware {
            pools.push(vars.pool.clone());
        }
        for names in [&mut pools, &mut bridges] {
            names.sort();
            names.dedup();
        }
        Self {
            vm: spec.name.clone(),
            memory: spec.memory,
            huge: spec.memory_pages == MemoryPages::Huge,
            uefi: matches!(spec.firmware, Firmware::Uefi { .. }),
            machine: spec.machine.clone(),
            bridges,
            pools,
        }
    }
}

impl Demand {
    /// Whether the host can take the VM now.
    ///
    /// # Errors
    /// The first thing that stands against it, and what would make it possible.
    pub fn fits(&self, host: &Host) -> Result<(), Problem> {
        let id = &host.id;
        if !host.up {
            return Err(Problem::new(
                Code::HostDown,
                format!("the agent of {id} has not been heard lately"),
            )
            .remedy(format!("start `godwit agent` on {id} and see to its network")));
        }
        self.suits(host)?;
        self.has_room(host)
    }

    fn has_room(&self, host: &Host) -> Result<(), Problem> {
        let (free, pages, setting) = match self.huge {
            false => (host.free, "", "memory_size"),
            true => (
                host.free_huge,
                " in huge pages of 2 MiB",
                "hugepages_size and the kernel's vm.nr_hugepages",
            ),
        };
        if free >= self.memory {
            return Ok(());
        }
        let (vm, wanted, id) = (&self.vm, self.memory, &host.id);
        let detail = format!("{vm} needs {wanted} of memory{pages} and {id} has {free} free");
        Err(Problem::new(Code::NotEnoughMemory, detail)
            .remedy(format!("move or stop a VM on {id}, or raise its {setting}")))
    }

    /// Whether the host offers what the VM needs, its memory aside.
    fn suits(&self, host: &Host) -> Result<(), Problem> {
        let id = &host.id;
        if let Some(bridge) = self.bridges.iter().find(|b| !host.bridges.contains(b)) {
            return Err(unsuitable(
                format!("{} has a NIC on bridge {bridge}, which {id} does not have", self.vm),
                format!("make the bridge on {id} and name it in its agent.toml (bridges)"),
            ));
        }
        if let Some(pool) = self.pools.iter().find(|p| !host.pools.contains(p)) {
            return Err(unsuitable(
                format!("{} has files in pool {pool}, which {id} does not have", self.vm),
                format!("mount the pool on {id} and name it in its agent.toml (pools)"),
            ));
        }
        if self.uefi && host.uefi.is_none() {
            return Err(unsuitable(
                format!("{} boots with UEFI, and {id} has no UEFI firmware", self.vm),
                format!("install the package ovmf on {id}, or name its files in its agent.toml"),
            ));
        }
        if let (Some(machine), Some(qemu)) =
            (machine::version(&self.machine), machine::version(&host.qemu))
            && machine > qemu
        {
            return Err(unsuitable(
                format!(
                    "{} has machine type {}, which is newer than QEMU {}.{} of {id}",
                    self.vm, self.machine, qemu.0, qemu.1
                ),
                format!("install QEMU {}.{} or newer on {id}", machine.0, machine.1),
            ));
        }
        Ok(())
    }
}

/// A problem of the kind "the host cannot offer what the VM needs".
pub(crate) fn unsuitable(detail: String, remedy: String) -> Problem {
    Problem::new(Code::HostUnsuitable, detail).remedy(remedy)
}
