//! The whole fleet, as the planner and `host ls` look at it.

use std::collections::{BTreeMap, HashMap};

use api::body::HostView;
use types::{AttemptId, AttemptPhase, Bytes, HostId, Ownership, Problem, RunState, VmId};

use crate::core::{Attempt, Vm};
use crate::keys;
use crate::shell::{Shell, parse_all};

/// Every VM and every open attempt.
pub(crate) struct Fleet {
    pub(crate) vms: Vec<(VmId, Vm, Option<Ownership>)>,
    pub(crate) open: Vec<Attempt>,
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
        Ok(Self { vms, open })
    }

    /// Memory that is promised on each host: VMs that shall run or were seen
    /// there, and VMs that are on their way.
    fn promised(&self, shell: &Shell) -> BTreeMap<HostId, u64> {
        let mut promised = BTreeMap::<HostId, u64>::new();
        let mut add = |host: &HostId, memory: u64| {
            let sum = promised.entry(host.clone()).or_default();
            *sum = sum.saturating_add(memory);
        };
        let seen = shell.seen();
        for (id, vm, own) in &self.vms {
            let Some(own) = own else { continue };
            let said = seen.vm(&own.owner, *id);
            let there = said.is_some_and(|s| s.facts.state != RunState::Stopped);
            if vm.desired != RunState::Stopped || there {
                add(&own.owner, vm.spec.memory.0);
            }
            for attempt in self.open.iter().filter(|a| a.record.vm == *id) {
                let (record, memory) = (&attempt.record, vm.spec.memory.0);
                for party in [&record.from, &record.to] {
                    if *party != own.owner && own.attempt == Some(record.id) {
                        add(party, memory);
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
            let promised = promised.get(&facts.host).copied().unwrap_or(0);
            let taken = facts.memory_used.0.max(promised);
            planner::Host {
                id: facts.host.clone(),
                up: host.up(),
                free: Bytes(facts.memory.0.saturating_sub(taken)),
                qemu: facts.qemu.clone(),
                accel: facts.accel.clone(),
                bridges: facts.bridges.clone(),
                pools: facts.pools.clone(),
            }
        };
        seen.hosts.values().map(host).collect()
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
            }
        };
        seen.hosts.values().map(view).collect()
    }
}
