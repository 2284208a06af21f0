//! What a VM asks of a host.

use types::{Bytes, Code, PoolName, Problem, VmName, VmSpec};

use crate::{Host, machine};

/// What a VM asks of the host it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The VM, for messages.
    pub vm: VmName,
    /// Its memory.
    pub memory: Bytes,
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
        for names in [&mut pools, &mut bridges] {
            names.sort();
            names.dedup();
        }
        Self {
            vm: spec.name.clone(),
            memory: spec.memory,
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
        if host.free < self.memory {
            return Err(Problem::new(
                Code::NotEnoughMemory,
                format!(
                    "{} needs {} of memory and {id} has {} free",
                    self.vm, self.memory, host.free
                ),
            )
            .remedy(format!("move or stop a VM on {id}, or raise its memory_size")));
        }
        Ok(())
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
