//! The whole fleet, as the planner and `host ls` look at it.

use std::collections::{BTreeMap, HashMap};

use api::body::{Cordon, HostView};
use types::{
    AttemptId, AttemptPhase, Bytes, Code, HostId, MemoryPages, Ownership, Problem, RunState, VmId,
    VmSpec,
};

use crate::core::{Attempt, Vm};
use crate::keys;
use crate::shell::{Shell, parse_all};

/// What plans reckon with by themselves.
const ROOM: &[Code] = &[Code::NotEnoughMemory, Code::HugepagesMissing, Code::HostCordoned];

/// Bytes that VMs of a host have or will have.
#[derive(Debug, Clone, Copy, Default)]
struct Promised {
    normal: u64,
    /// In reserved huge pages.
    huge: u64,
}

/// Every VM and every open attempt.
pub(crate) struct Fleet {
    pub(crate) vms: Vec<(VmId, Vm, Option<Ownership>)>,
    pub(crate) open: Vec<Attempt>,
    pub(crate) cordons: BTreeMap<HostId, Cordon>,
}

impl Fleet {
    pub(crate) async fn read(shell: &Shell) -> Result<Self, Problem> {
        let owns = shell.all(keys::OWNS).await?;
        let records = parse_all::<Ownership>(&owns)?;
        let ids = owns.iter().filter_map(|entry| keys::tail(&entry.key));
        let mut owners: HashMap<VmId, Ownership> = ids.zip(records).collect();
        let entries = shell.all(keys::VMS).await?;
        let ids = entries.iter().filter_map(|entry| keys::tail::<VmId>(&entry.key));
        let vms = ids
            .zip(parse_all::<Vm>(&entries)?)
            .map(|(id, vm)| (id, vm, owners.remove(&id)))
            .collect();
        let open = shell.all(keys::OPENS).await?;
        let ids = open.iter().filter_map(|entry| keys::tail(&entry.key));
        let attempts = shell.read(ids.map(keys::attempt).collect()).await?;
        let mut open: Vec<Attempt> =
            parse_all(&attempts.into_iter().flatten().collect::<Vec<_>>())?;
        open.retain(|attempt| attempt.record.phase != AttemptPhase::Done);
        let entries = shell.all(keys::CORDONS).await?;
        let hosts = entries.iter().filter_map(|entry| keys::tail(&entry.key));
        let cordons = hosts.zip(parse_all(&entries)?).collect();
        Ok(Self { vms, open, cordons })
    }

    /// Memory that is promised on each host: VMs that shall run or were seen
    /// there, and VMs that are on their way.
    fn promised(&self, shell: &Shell) -> BTreeMap<HostId, Promised> {
        let mut promised = BTreeMap::<HostId, Promised>::new();
        let mut add = |host: &HostId, spec: &VmSpec| {
            let promised = promised.entry(host.clone()).or_default();
            let sum = match spec.memory_pages {
                MemoryPages::Normal => &mut promised.normal,
                MemoryPages::Huge => &mut promised.huge,
            };
            *sum = sum.saturating_add(spec.memory.0);
        };
        let seen = shell.seen();
        for (id, vm, own) in &self.vms {
            let Some(own) = own else { continue };
            let said = seen.vm(&own.owner, *id);
            let there = said.is_some_and(|s| s.facts.state != RunState::Stopped);
            if vm.desired != RunState::Stopped || there {
                add(&own.owner, &vm.spec);
            }
            for attempt in self.open.iter().filter(|a| a.record.vm == *id) {
                let record = &attempt.record;
                for party in [&record.from, &record.to] {
                    if *party != own.owner && own.attempt == Some(record.id) {
                        add(party, &vm.spec);
                    }
                }
            }
        }
        promised
    }

    /// Hosts that a VM left and that have not released it yet.
    pub(crate) fn clearing(&self, vm: VmId) -> Vec<(HostId, AttemptId)> {
        let of_vm = self.open.iter().map(|a| &a.record).filter(|record| record.vm == vm);
        of_vm.map(|record| (record.from.clone(), record.id)).collect()
    }

    /// The hosts, as the planner sees them.
    pub(crate) fn hosts(&self, shell: &Shell) -> Vec<planner::Host> {
        let promised = self.promised(shell);
        let seen = shell.seen();
        let host = |host: &crate::seen::Host| {
            let facts = &host.facts;
            let promised = promised.get(&facts.host).copied().unwrap_or_default();
            let free = |all: Bytes, used: Bytes, promised: u64| {
                Bytes(all.0.saturating_sub(used.0.max(promised)))
            };
            planner::Host {
                id: facts.host.clone(),
                up: host.up(),
                cordoned: self.cordons.contains_key(&facts.host),
                free: free(facts.memory, facts.memory_used, promised.normal),
                free_huge: free(facts.hugepages, facts.hugepages_used, promised.huge),
                uefi: facts.uefi.clone(),
                qemu: facts.qemu.clone(),
                accel: facts.accel.clone(),
                bridges: facts.bridges.clone(),
                pools: facts.pools.clone(),
                offer: facts.offer.clone(),
            }
        };
        seen.hosts.values().map(host).collect()
    }

    /// What stands against a VM leaving its host and going to each other one, the
    /// room there and the cordons left out.
    pub(crate) fn barred(
        &self,
        shell: &Shell,
        (id, vm, own): &(VmId, Vm, Option<Ownership>),
        hosts: &[planner::Host],
    ) -> BTreeMap<HostId, Problem> {
        let from = own.as_ref().map(|own| own.owner.clone());
        let said = from.as_ref().and_then(|from| shell.seen().vm(from, *id).cloned());
        let clearing = self.clearing(*id);
        let wanted = planner::Move {
            demand: &planner::Demand::from(&vm.spec),
            from: from.as_ref(),
            state: said.as_ref().map(|said| said.facts.state),
            attempt: own.as_ref().and_then(|own| own.attempt),
            clearing: &clearing,
            blockers: said.as_ref().map_or(&[][..], |said| &said.facts.blockers),
        };
        let survey = planner::survey(&wanted, hosts);
        let lasts = |problem: &Problem| !ROOM.contains(&problem.code);
        let first = |against: Vec<Problem>| survey.vm.iter().cloned().chain(against).find(lasts);
        let each = survey.hosts.into_iter();
        each.filter_map(|(host, against)| Some((host, first(against)?))).collect()
    }

    /// The hosts, as shown.
    pub(crate) fn views(&self, shell: &Shell) -> Vec<HostView> {
        let seen = shell.seen();
        let view = |host: &crate::seen::Host| {
            let owned = |own: &Option<Ownership>| {
                own.as_ref().is_some_and(|own| own.owner == host.facts.host)
            };
            let mut vms: Vec<_> = self
                .vms
                .iter()
                .filter(|(_, _, own)| owned(own))
                .map(|(_, vm, _)| vm.spec.name.clone())
                .collect();
            vms.sort();
            HostView {
                facts: host.facts.clone(),
                up: host.up(),
                heard_seconds: Some(host.heard.elapsed().as_secs_f64()),
                vms,
                cordon: self.cordons.get(&host.facts.host).cloned(),
            }
        };
        seen.hosts.values().map(view).collect()
    }
}
