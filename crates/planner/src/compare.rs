//! What differs between two hosts, so that a VM that runs on one cannot go on
//! running on the other.

use types::{Code, HostOffer, PoolName, PoolOffer, Problem};

use crate::cpu::{HostCpu, Lacking, VmCpu};
use crate::{Demand, Host};

/// Everything that keeps the VM from going from one host to the other.
pub(crate) fn differences(demand: &Demand, from: &Host, to: &Host) -> Vec<Problem> {
    let mut all: Vec<Problem> =
        accel(demand, from, to).into_iter().chain(uefi(demand, from, to)).collect();
    let (Some(here), Some(there)) = (&from.offer, &to.offer) else { return all };
    let pair = Pair { demand, from, to, here, there };
    all.extend(pair.firmware());
    // Where guests are executed differently, their processors are not comparable.
    if all.iter().all(|problem| problem.code != Code::AccelDiffers) {
        all.extend(pair.cpu());
    }
    all.extend(pair.disk());
    all.extend(pair.mtu());
    all
}

fn accel(demand: &Demand, from: &Host, to: &Host) -> Option<Problem> {
    let detail = format!(
        "{} is executed with {} on {}, and {} offers {}",
        demand.vm, from.accel, from.id, to.id, to.accel
    );
    (from.accel != to.accel).then(|| {
        Problem::new(Code::AccelDiffers, detail)
            .remedy(format!("choose a host with {}", from.accel))
    })
}

/// UEFI's code travels with the VM and is read again at its next boot there.
fn uefi(demand: &Demand, from: &Host, to: &Host) -> Option<Problem> {
    let (vm, from_id, to_id) = (&demand.vm, &from.id, &to.id);
    (demand.uefi && to.uefi.is_some() && from.uefi != to.uefi).then(|| {
        let detail =
            format!("{vm} runs with the UEFI firmware of {from_id}, and that of {to_id} differs");
        Problem::new(Code::FirmwareDiffers, detail)
            .remedy(format!("install the same version of the firmware on {from_id} and {to_id}"))
    })
}

struct Pair<'a> {
    demand: &'a Demand,
    from: &'a Host,
    to: &'a Host,
    here: &'a HostOffer,
    there: &'a HostOffer,
}

impl Pair<'_> {
    /// The content of firmware travels, its size must be equal.
    fn firmware(&self) -> Option<Problem> {
        let (from, to) = (&self.from.id, &self.to.id);
        let (name, bytes) = self.demand.firmware.iter().find_map(|name| {
            let here = self.here.firmware.get(*name)?.bytes;
            let there = self.there.firmware.get(*name).map(|file| file.bytes);
            (there != Some(here)).then_some((name, (here, there)))
        })?;
        let detail = match bytes {
            (here, Some(there)) => format!(
                "the firmware {name} has {here} bytes on {from} and {there} bytes on {to}; \
                 a migration needs equal sizes"
            ),
            (_, None) => format!("the firmware {name} of {from} is not found on {to}"),
        };
        Some(Problem::new(Code::FirmwareDiffers, detail).remedy(format!(
            "install the same packages of firmware on {to} as on {from}, or see to qemu_data in \
             its agent.toml"
        )))
    }

    /// What the VM has seen of a processor must be there.
    fn cpu(&self) -> Option<Problem> {
        let (vm, to) = (&self.demand.vm, &self.to.id);
        let (here, there) = (cpu(self.from, self.here), cpu(self.to, self.there));
        // An agent that could not find out says nothing; neither do we.
        if here.features.is_empty() || there.features.is_empty() {
            return None;
        }
        let kvm = self.from.accel == "kvm";
        let lacking = match VmCpu::parse(&self.demand.cpu_model, kvm) {
            // What its host did not offer either, the VM has never seen.
            Ok(VmCpu::Named { model, features }) => {
                VmCpu::Named { model, features: features.and(&here.features) }.runs_on(&there)
            }
            // Of a model that nobody can judge, all that its host has may matter.
            Ok(VmCpu::Host) | Err(_) => VmCpu::Host.moves(&here, &there),
        };
        let (why, remedy) = match lacking.err()? {
            Lacking::Features(features) => (
                format!("the processor of {to} lacks what {vm} has seen: {features}"),
                "choose a host with these features, or restart the VM with a cpu_model that \
                 every host has",
            ),
            Lacking::Model(model) => (
                format!("QEMU of {to} does not know the CPU model {model} of {vm}"),
                "install a QEMU there that knows it (`-cpu help`)",
            ),
            Lacking::Differs(features) => (
                format!("{vm} has its host's own processor, and that of {to} has more: {features}"),
                "restart the VM with a named cpu_model that every host has",
            ),
        };
        Some(Problem::new(Code::CpuFeatureMissing, why).remedy(remedy))
    }

    /// A disk must be the same one, and its writes must not rest in a cache that
    /// only one host has.
    fn disk(&self) -> Option<Problem> {
        let one_machine = !self.here.boot_id.is_empty() && self.here.boot_id == self.there.boot_id;
        self.demand.disk_pools.iter().find_map(|pool| {
            // On one machine the hosts share the cache too, as in a lab.
            let cached = if one_machine { None } else { self.cached(pool) };
            cached.or_else(|| self.other_disk(pool))
        })
    }

    fn cached(&self, pool: &PoolName) -> Option<Problem> {
        let sides = [(self.from, self.here), (self.to, self.there)];
        let (host, _) = sides
            .into_iter()
            .find(|(_, offer)| offer.pools.get(pool).is_some_and(|p| !p.direct))?;
        let (vm, id) = (&self.demand.vm, &host.id);
        Some(
            Problem::new(
                Code::DiskNotDirect,
                format!(
                    "{vm} has a disk in pool {pool}, whose file system on {id} cannot by-pass \
                     the page cache (O_DIRECT)"
                ),
            )
            .remedy("put the pool on a file system with O_DIRECT, such as NFS, ext4 or XFS"),
        )
    }

    /// Each host must find there what the other has lately written.
    fn other_disk(&self, pool: &PoolName) -> Option<Problem> {
        let (vm, from, to) = (&self.demand.vm, &self.from.id, &self.to.id);
        let (here, there) = (self.here.pools.get(pool)?, self.there.pools.get(pool)?);
        let finds = |looking: &PoolOffer, host, written: &PoolOffer| {
            looking.seen.get(host).is_some_and(|mark| written.nonces.contains(mark))
        };
        if finds(there, from, here) && finds(here, to, there) {
            return None;
        }
        let mute = [(from, here), (to, there)].into_iter().find(|(_, p)| p.nonces.is_empty());
        let (why, remedy) = match mute {
            Some((host, _)) => (
                format!("{host} may not write into it, so that nobody can tell"),
                format!("let the agent of {host} write into the pool"),
            ),
            None => (
                "the hosts do not find in it what the other one has written there".to_owned(),
                format!("mount the same storage for the pool on {from} and {to}"),
            ),
        };
        let detail =
            format!("{vm} has a disk in pool {pool}, which is not the same on {to}: {why}");
        Some(Problem::new(Code::DiskDiffers, detail).remedy(remedy))
    }

    fn mtu(&self) -> Option<Problem> {
        let (vm, from, to) = (&self.demand.vm, &self.from.id, &self.to.id);
        self.demand.bridges.iter().find_map(|bridge| {
            let (here, there) = (*self.here.mtu.get(bridge)?, *self.there.mtu.get(bridge)?);
            let detail = format!(
                "{vm} has a NIC on bridge {bridge}, which carries frames of {here} bytes on {from} \
                 and of {there} only on {to}"
            );
            (there < here).then(|| {
                Problem::new(Code::MtuTooSmall, detail)
                    .remedy(format!("on {to}: `ip link set dev {bridge} mtu {here}`"))
            })
        })
    }
}

fn cpu(host: &Host, offer: &HostOffer) -> HostCpu {
    let on = offer.cpu.features.iter().map(|name| (name.as_str(), true));
    let mut cpu = HostCpu::read(host.id.clone(), &offer.cpu.vendor, on);
    cpu.models = offer.cpu.models.iter().cloned().collect();
    cpu
}
