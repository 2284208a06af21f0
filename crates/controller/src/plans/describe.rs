//! The fleet as the planner is asked about it. Only what lasts goes in, so that the
//! same state gives the same plan: no momentary load, no time.

use std::collections::{BTreeMap, BTreeSet};

use api::body::HostFacts;
use types::{
    Amounts, FleetHost, FleetVm, HostId, MemoryPages, Ownership, PlanGoal, Policy, Problem,
    RunState, VmId, VmSpec,
};

use crate::core::Vm;
use crate::fleet::Fleet;
use crate::shell::Shell;

/// Virtual processors for each real one.
const OVERCOMMIT: u64 = 16;

/// The fleet, for a goal.
pub(super) async fn describe(shell: &Shell, goal: &PlanGoal) -> Result<types::Fleet, Problem> {
    let fleet = Fleet::read(shell).await?;
    let hosts = hosts(shell, &fleet, goal);
    let seen = fleet.hosts(shell);
    let named = goal.hosts();
    let mut vms = Vec::new();
    for entry in &fleet.vms {
        let (_, vm, own) = entry;
        let Some(owner) = own.as_ref().map(|own| &own.owner).filter(|_| runs(vm)) else { continue };
        let home = vm.home.as_ref().filter(|home| *home != owner);
        let back = home.filter(|home| named.contains(home) && restores(goal));
        let may_move = match goal {
            PlanGoal::Drain { .. } => named.contains(owner),
            PlanGoal::Restore { .. } => back.is_some(),
            PlanGoal::Balance => true,
        };
        let barred = match may_move {
            true => fleet.barred(shell, entry, &seen),
            false => BTreeMap::new(),
        };
        vms.push(FleetVm {
            name: vm.spec.name.clone(),
            host: Some(owner.clone()),
            home: home.cloned(),
            tier: vm.spec.tier.clone(),
            demand: demand(&vm.spec),
            reserved: Amounts::new(),
            history: BTreeMap::new(),
            cpu_features: Vec::new(),
            // It may be at home only; whoever is elsewhere must move.
            pinned: back.into_iter().cloned().collect(),
            barred,
            dirty_rate: None,
        });
    }
    vms.sort_by(|a, b| a.name.cmp(&b.name));
    let known: BTreeSet<&HostId> = hosts.iter().map(|host| &host.name).collect();
    // Of a host that has not been heard since the controller began nothing is known.
    vms.retain(|vm| vm.host.as_ref().is_some_and(|host| known.contains(host)));
    vms.iter_mut().for_each(|vm| drop(vm.home.take_if(|home| !known.contains(home))));
    Ok(types::Fleet { hosts, vms, rules: Vec::new(), policy: Policy::default() })
}

fn restores(goal: &PlanGoal) -> bool {
    matches!(goal, PlanGoal::Restore { .. })
}

fn runs(vm: &Vm) -> bool {
    vm.desired != RunState::Stopped
}

fn hosts(shell: &Shell, fleet: &Fleet, goal: &PlanGoal) -> Vec<FleetHost> {
    let named = goal.hosts();
    let host = |facts: &HostFacts| {
        let name = facts.host.clone();
        let cordoned = match goal {
            PlanGoal::Drain { .. } if named.contains(&name) => true,
            PlanGoal::Restore { .. } if named.contains(&name) => false,
            _ => fleet.cordons.contains_key(&name),
        };
        FleetHost {
            capacity: capacity(facts),
            cordoned,
            name,
            site: None,
            domain: None,
            cpu_features: Vec::new(),
            link: None,
        }
    };
    // By name, as the map has them.
    shell.seen().hosts.values().map(|h| host(&h.facts)).collect()
}

fn capacity(facts: &HostFacts) -> Amounts {
    [
        ("cpu".to_owned(), u64::from(facts.cpus) * 1000 * OVERCOMMIT),
        ("memory".to_owned(), facts.memory.0),
        ("hugepages".to_owned(), facts.hugepages.0),
    ]
    .into()
}

fn demand(spec: &VmSpec) -> Amounts {
    let memory = match spec.memory_pages {
        MemoryPages::Normal => "memory",
        MemoryPages::Huge => "hugepages",
    };
    [("cpu".to_owned(), u64::from(spec.vcpus) * 1000), (memory.to_owned(), spec.memory.0)].into()
}

/// VMs that run where the goal does not want them.
pub(super) fn stray(fleet: &Fleet, goal: &PlanGoal) -> Vec<(VmId, Vm, Ownership)> {
    let named = goal.hosts();
    let there = |(id, vm, own): &(VmId, Vm, Option<Ownership>)| {
        let own = own.clone().filter(|_| runs(vm))?;
        let stray = match goal {
            PlanGoal::Drain { .. } => named.contains(&own.owner),
            PlanGoal::Restore { .. } => {
                vm.home.as_ref().is_some_and(|home| named.contains(home) && *home != own.owner)
            }
            PlanGoal::Balance => false,
        };
        stray.then(|| (*id, vm.clone(), own))
    };
    fleet.vms.iter().filter_map(there).collect()
}
