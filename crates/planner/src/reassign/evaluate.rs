//! What an assignment costs and what it breaks, counted from the model alone: the
//! measure that the search's own bookkeeping is held against.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{GroupIndex, HostIndex, Model, NOWHERE, VmIndex};

/// A hard constraint that an assignment breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// A host has less of a resource than its VMs need.
    Capacity {
        /// The host.
        host: HostIndex,
        /// Position of the resource.
        resource: usize,
        /// Amount that is missing, transient use included.
        missing: i64,
    },
    /// A VM is on a host that it may not run on.
    NotAllowed {
        /// The VM.
        vm: VmIndex,
        /// Where it is.
        host: HostIndex,
    },
    /// Two VMs of a group whose VMs exclude each other are on one host.
    Exclusive {
        /// The group.
        group: GroupIndex,
        /// Where they are.
        host: HostIndex,
    },
    /// A group is in too few domains.
    Spread {
        /// The group.
        group: GroupIndex,
        /// In how many it is.
        domains: u32,
    },
    /// A group misses one that it needs.
    Needs {
        /// The group.
        group: GroupIndex,
        /// The group that it needs.
        needed: GroupIndex,
        /// The neighbourhood where that is missing.
        neighbourhood: u32,
    },
}

/// Everything that an assignment breaks, sorted.
pub fn broken(model: &Model, place: &[HostIndex]) -> Vec<Broken> {
    let mut broken = Vec::new();
    capacity(model, place, &mut broken);
    groups(model, place, &mut broken);
    let placed = place.iter().enumerate().filter(|(_, h)| **h != NOWHERE);
    for (vm, &host) in placed {
        let vm = vm as VmIndex;
        if !model.allows(vm, host) {
            broken.push(Broken::NotAllowed { vm, host });
        }
    }
    broken.sort_unstable();
    broken
}

/// Whether an assignment breaks something that its beginning does not break, or
/// breaks it more.
pub fn worse(model: &Model, place: &[HostIndex]) -> Option<Broken> {
    let before = broken(model, &model.origins());
    broken(model, place).into_iter().find(|b| !before.iter().any(|o| covers(o, b)))
}

pub(super) fn covers(old: &Broken, new: &Broken) -> bool {
    match (old, new) {
        (
            Broken::Capacity { host: a, resource: r, missing: m },
            Broken::Capacity { host: b, resource: s, missing: n },
        ) => a == b && r == s && m >= n,
        (Broken::Spread { group: a, domains: m }, Broken::Spread { group: b, domains: n }) => {
            a == b && m <= n
        }
        (a, b) => a == b,
    }
}

fn used(model: &Model, place: &[HostIndex]) -> Vec<Vec<i64>> {
    let mut used = vec![vec![0; model.resources.len()]; model.hosts.len()];
    for (vm, &host) in model.vms.iter().zip(place).filter(|(_, h)| **h != NOWHERE) {
        let sums = &mut used[host as usize];
        sums.iter_mut().zip(&vm.demand).for_each(|(sum, demand)| *sum += demand);
    }
    used
}

fn capacity(model: &Model, place: &[HostIndex], broken: &mut Vec<Broken>) {
    let mut used = used(model, place);
    for (vm, &to) in model.vms.iter().zip(place) {
        if vm.origin == NOWHERE || vm.origin == to {
            continue;
        }
        for (r, _) in model.resources.iter().enumerate().filter(|(_, r)| r.transient) {
            used[vm.origin as usize][r] += vm.demand[r];
        }
    }
    for (h, host) in model.hosts.iter().enumerate() {
        for (resource, capacity) in host.capacity.iter().enumerate() {
            let missing = used[h][resource] - capacity;
            if missing > 0 {
                broken.push(Broken::Capacity { host: h as HostIndex, resource, missing });
            }
        }
    }
}

/// Where the VMs of each group are.
fn places(model: &Model, place: &[HostIndex]) -> Vec<Vec<HostIndex>> {
    let mut places = vec![Vec::new(); model.groups.len()];
    for (vm, &host) in model.vms.iter().zip(place).filter(|(_, h)| **h != NOWHERE) {
        vm.groups.iter().for_each(|g| places[*g as usize].push(host));
    }
    places
}

fn groups(model: &Model, place: &[HostIndex], broken: &mut Vec<Broken>) {
    let places = places(model, place);
    let near = |host: &HostIndex| model.hosts[*host as usize].neighbourhood;
    let nears: Vec<BTreeSet<u32>> =
        places.iter().map(|hosts| hosts.iter().map(near).collect()).collect();
    let mut sizes = vec![0u32; model.groups.len()];
    model.vms.iter().flat_map(|v| &v.groups).for_each(|g| sizes[*g as usize] += 1);
    for (g, group) in model.groups.iter().enumerate() {
        let index = g as GroupIndex;
        let mut seen = BTreeSet::new();
        let twice = places[g].iter().filter(|h| group.rule.exclusive && !seen.insert(**h));
        for host in twice.copied().collect::<BTreeSet<_>>() {
            broken.push(Broken::Exclusive { group: index, host });
        }
        let domain = |host: &HostIndex| model.hosts[*host as usize].domain;
        let domains = places[g].iter().map(domain).collect::<BTreeSet<_>>().len() as u32;
        if domains < group.rule.spread && sizes[g] > 0 {
            broken.push(Broken::Spread { group: index, domains });
        }
        for &needed in &group.needs {
            for neighbourhood in nears[g].difference(&nears[needed as usize]).copied() {
                broken.push(Broken::Needs { group: index, needed, neighbourhood });
            }
        }
    }
}

/// What an assignment costs.
pub fn cost(model: &Model, place: &[HostIndex]) -> i64 {
    let used = used(model, place);
    let running: BTreeSet<HostIndex> = place.iter().copied().collect();
    let mut cost = 0;
    for (h, host) in model.hosts.iter().enumerate() {
        for (r, resource) in model.resources.iter().enumerate() {
            cost += resource.weight * (used[h][r] - host.safety[r]).max(0);
        }
        for b in &model.balances {
            let free = |r: usize| host.capacity[r] - used[h][r];
            cost += b.weight * (b.target * free(b.first) - free(b.second)).max(0);
        }
        if running.contains(&(h as HostIndex)) {
            cost += host.running_cost;
        }
    }
    cost + places_cost(model, place) + groups_cost(model, place)
}

fn places_cost(model: &Model, place: &[HostIndex]) -> i64 {
    let mut cost = 0;
    for (v, (vm, &host)) in model.vms.iter().zip(place).enumerate() {
        if host == NOWHERE {
            cost += vm.unplaced_cost;
            continue;
        }
        if vm.origin == host {
            cost += if model.allows(v as VmIndex, host) { 0 } else { vm.stay_cost };
        } else if vm.origin != NOWHERE {
            cost += vm.move_cost + model.distance.between(vm.origin, host);
        }
        let elsewhere = |(set, _): &(u32, i64)| !model.host_sets[*set as usize].contains(host);
        cost += vm.preferred.filter(elsewhere).map_or(0, |(_, cost)| cost);
    }
    cost
}

fn groups_cost(model: &Model, place: &[HostIndex]) -> i64 {
    let mut cost = 0;
    for (group, hosts) in model.groups.iter().zip(places(model, place)) {
        let mut on: BTreeMap<HostIndex, i64> = BTreeMap::new();
        hosts.iter().for_each(|h| *on.entry(*h).or_default() += 1);
        let pairs: i64 = on.values().map(|n| n * (n - 1) / 2).sum();
        cost -= group.rule.pull * pairs;
    }
    let mut moves = vec![0i64; model.groups.len()];
    for (vm, _) in
        model.vms.iter().zip(place).filter(|(vm, to)| vm.origin != NOWHERE && vm.origin != **to)
    {
        let counted = vm.groups.iter().filter(|g| model.groups[**g as usize].rule.counts_moves);
        counted.for_each(|g| moves[*g as usize] += 1);
    }
    cost + model.group_move_weight * moves.into_iter().max().unwrap_or(0)
}
