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
    /// Its CPU model, with features.
    pub cpu_model: String,
    /// Bridges of its NICs.
    pub bridges: Vec<PoolName>,
    /// Pools of its kernel and disks.
    pub pools: Vec<PoolName>,
    /// Of these, pools of its disks and UEFI variables: what it writes to.
    pub disk_pools: Vec<PoolName>,
    /// Files with firmware that its QEMU loads.
    pub firmware: Vec<&'static str>,
}

/// What a PC with a BIOS loads.
const FIRMWARE: &[&str] = &["bios-256k.bin", "kvmvapic.bin"];
/// What a PC with UEFI loads besides; UEFI itself is compared by its digest.
const UEFI_FIRMWARE: &[&str] = &["kvmvapic.bin"];
/// What a PC loads besides that boots a kernel.
const KERNEL_FIRMWARE: &[&str] = &["linuxboot_dma.bin"];

impl From<&VmSpec> for Demand {
    fn from(spec: &VmSpec) -> Self {
        let boot = spec.boot.iter().flat_map(|b| [Some(&b.kernel), b.initrd.as_ref()]).flatten();
        let (vars, firmware) = match &spec.firmware {
            Firmware::Bios => (None, FIRMWARE),
            Firmware::Uefi(uefi) => (Some(&uefi.vars.pool), UEFI_FIRMWARE),
        };
        let written = spec.disks.iter().map(|d| &d.pool).chain(vars);
        let kernel = if spec.boot.is_some() { KERNEL_FIRMWARE } else { &[] };
        Self {
            vm: spec.name.clone(),
            memory: spec.memory,
            huge: spec.memory_pages == MemoryPages::Huge,
            uefi: matches!(spec.firmware, Firmware::Uefi(_)),
            machine: spec.machine.clone(),
            cpu_model: spec.cpu_model.clone(),
            bridges: once(spec.nics.iter().map(|n| &n.bridge)),
            pools: once(boot.map(|i| &i.pool).chain(written.clone())),
            disk_pools: once(written),
            firmware: [firmware, kernel].concat(),
        }
    }
}

/// Every name once, in order.
fn once<'a>(names: impl Iterator<Item = &'a PoolName>) -> Vec<PoolName> {
    let mut names: Vec<PoolName> = names.cloned().collect();
    names.sort();
    names.dedup();
    names
}

impl Demand {
    /// Whether the host can take the VM now.
    ///
    /// # Errors
    /// The first thing that stands against it, and what would make it possible.
    pub fn fits(&self, host: &Host) -> Result<(), Problem> {
        self.against(host).into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that stands against the host taking the VM now. Of a host that
    /// is down nothing more is said: what it offers may be different by now.
    pub fn against(&self, host: &Host) -> Vec<Problem> {
        if !host.up {
            return vec![down(host)];
        }
        let mut all: Vec<Problem> = [cordoned(host), self.bridge(host), self.pool(host)]
            .into_iter()
            .chain([self.uefi(host), self.machine(host)])
            .chain([self.memory(host), self.hugepages(host), self.available(host)])
            .flatten()
            .collect();
        // Once is enough.
        all.dedup_by_key(|problem| problem.code);
        all
    }

    fn bridge(&self, host: &Host) -> Option<Problem> {
        let (vm, id) = (&self.vm, &host.id);
        let bridge = self.bridges.iter().find(|b| !host.has_bridge(b))?;
        Some(
            Problem::new(
                Code::BridgeMissing,
                format!("{vm} has a NIC on bridge {bridge}, which {id} does not have"),
            )
            .remedy(format!("make the bridge on {id} and name it in its agent.toml (bridges)")),
        )
    }

    fn pool(&self, host: &Host) -> Option<Problem> {
        let (vm, id) = (&self.vm, &host.id);
        let pool = self.pools.iter().find(|p| !host.pools.contains(p))?;
        Some(
            Problem::new(
                Code::PoolMissing,
                format!("{vm} has files in pool {pool}, which {id} does not have"),
            )
            .remedy(format!("mount the pool on {id} and name it in its agent.toml (pools)")),
        )
    }

    fn uefi(&self, host: &Host) -> Option<Problem> {
        let (vm, id) = (&self.vm, &host.id);
        (self.uefi && host.uefi.is_none()).then(|| {
            let detail = format!("{vm} boots with UEFI, and {id} has no UEFI firmware");
            Problem::new(Code::FirmwareDiffers, detail).remedy(format!(
                "install the package ovmf on {id}, or name its files in its agent.toml"
            ))
        })
    }

    fn machine(&self, host: &Host) -> Option<Problem> {
        let (vm, id, wanted) = (&self.vm, &host.id, &self.machine);
        let (machine, qemu) = (machine::version(wanted)?, machine::version(&host.qemu)?);
        let listed = host.offer.as_ref().map(|offer| &offer.machines).filter(|m| !m.is_empty());
        let known = listed.is_none_or(|machines| machines.contains(wanted));
        let (why, remedy) = if machine > qemu {
            (
                format!("is newer than QEMU {}.{} of {id}", qemu.0, qemu.1),
                format!("install QEMU {}.{} or newer on {id}", machine.0, machine.1),
            )
        } else if !known {
            (
                format!("is unknown to QEMU {}.{} of {id}", qemu.0, qemu.1),
                format!("install a QEMU on {id} that lists it (`-machine help`)"),
            )
        } else {
            return None;
        };
        let detail = format!("{vm} has machine type {wanted}, which {why}");
        Some(Problem::new(Code::MachineMissing, detail).remedy(remedy))
    }

    fn memory(&self, host: &Host) -> Option<Problem> {
        let (vm, id, wanted) = (&self.vm, &host.id, self.memory);
        (!self.huge && host.free < wanted).then(|| {
            let detail = format!(
                "{vm} needs {wanted} of memory, and {} are free in the memory file system of {id}",
                host.free
            );
            Problem::new(Code::NotEnoughMemory, detail)
                .remedy(format!("move or stop a VM on {id}, or raise its memory_size"))
        })
    }

    fn hugepages(&self, host: &Host) -> Option<Problem> {
        let (vm, id, wanted, free) = (&self.vm, &host.id, self.memory, host.free_huge);
        (self.huge && free < wanted).then(|| {
            let detail = format!("{vm} needs {wanted} of huge pages, and {free} are free on {id}");
            Problem::new(Code::HugepagesMissing, detail).remedy(format!(
                "move or stop a VM on {id}, or raise its hugepages_size and the kernel's \
                 vm.nr_hugepages"
            ))
        })
    }

    /// Whether the kernel could give what the memory file system promises.
    fn available(&self, host: &Host) -> Option<Problem> {
        let (vm, id, wanted) = (&self.vm, &host.id, self.memory);
        let available = host.offer.as_ref()?.memory_available?;
        // Huge pages have been taken from the kernel before.
        (!self.huge && available < wanted).then(|| {
            let detail = format!(
                "{vm} needs {wanted} of memory, and the kernel of {id} has only {available} to give"
            );
            Problem::new(Code::NotEnoughMemory, detail)
                .remedy(format!("free memory on {id}, and lower its memory_size to what it has"))
        })
    }
}

impl Host {
    /// Whether the bridge is configured and, as far as is told, there.
    fn has_bridge(&self, bridge: &PoolName) -> bool {
        let there = |offer: &types::HostOffer| offer.mtu.contains_key(bridge);
        self.bridges.contains(bridge) && self.offer.as_ref().is_none_or(there)
    }
}

fn down(host: &Host) -> Problem {
    let id = &host.id;
    Problem::new(Code::HostDown, format!("the agent of {id} has not been heard lately"))
        .remedy(format!("start `godwit agent` on {id} and see to its network"))
}

fn cordoned(host: &Host) -> Option<Problem> {
    let id = &host.id;
    host.cordoned.then(|| {
        Problem::new(Code::HostCordoned, format!("{id} is cordoned: nothing new goes there"))
            .remedy(format!("choose another host, or `godwit host uncordon {id}`"))
    })
}
