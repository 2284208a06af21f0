//! The machine reassignment problem, as hosts and VMs.

use super::Invalid;

/// A host, by its position in the model.
pub type HostIndex = u32;
/// A VM, by its position in the model.
pub type VmIndex = u32;
/// A group of VMs, by its position in the model.
pub type GroupIndex = u32;

/// The place of a VM that runs nowhere.
pub const NOWHERE: HostIndex = HostIndex::MAX;

/// One problem: hosts, VMs, where the VMs are, what must hold, and what costs.
///
/// Amounts are whole numbers in whatever unit their resource has. The sum over all
/// VMs of an amount times its weight must stay below 2^60.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// What hosts offer and VMs use.
    pub resources: Vec<Resource>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The VMs.
    pub vms: Vec<Vm>,
    /// VMs that a rule names together.
    pub groups: Vec<Group>,
    /// Sets of hosts that VMs may be confined to.
    pub host_sets: Vec<HostSet>,
    /// Costs of free amounts that do not match each other.
    pub balances: Vec<Balance>,
    /// What it costs to move between two hosts beside the VM's own cost.
    pub distance: Distance,
    /// Cost of each move of that group that has the most moves.
    pub group_move_weight: i64,
}

/// Something that hosts have an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// A VM needs it on both hosts while it moves.
    pub transient: bool,
    /// Cost of each unit above a host's safety threshold.
    pub weight: i64,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Amount of each resource that VMs may use.
    pub capacity: Vec<i64>,
    /// Amount of each resource from which on use costs.
    pub safety: Vec<i64>,
    /// Hosts of one domain fail together.
    pub domain: u32,
    /// Groups that need each other must be in one neighbourhood.
    pub neighbourhood: u32,
    /// Cost of the host running any VM at all.
    pub running_cost: i64,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Amount of each resource.
    pub demand: Vec<i64>,
    /// The groups it is in, each once.
    pub groups: Vec<GroupIndex>,
    /// Where it is, or [`NOWHERE`].
    pub origin: HostIndex,
    /// Cost of moving it, from its forecast.
    pub move_cost: i64,
    /// Position in [`Model::host_sets`] of the hosts it may run on; `None`: any.
    pub allowed: Option<u32>,
    /// Hosts it would rather run on, and the cost of running elsewhere.
    pub preferred: Option<(u32, i64)>,
    /// Cost of running nowhere.
    pub unplaced_cost: i64,
    /// Cost of staying where it is although it must leave: where `allowed` leaves
    /// out its origin.
    pub stay_cost: i64,
}

/// VMs that a rule names together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupRule {
    /// At most one of them on a host.
    pub exclusive: bool,
    /// At least so many domains.
    pub spread: u32,
    /// Gain of each pair on one host; negative: what such a pair costs.
    pub pull: i64,
    /// Its moves count for [`Model::group_move_weight`].
    pub counts_moves: bool,
}

/// A rule and the groups that must be near.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// What holds among its VMs.
    pub rule: GroupRule,
    /// Groups of which a VM must be in the neighbourhood of each VM of this one.
    pub needs: Vec<GroupIndex>,
}

/// Of two resources' free amounts, `target` × the first should not exceed the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Position of the first resource.
    pub first: usize,
    /// Position of the second resource.
    pub second: usize,
    /// How much of the second should be free for each unit of the first.
    pub target: i64,
    /// Cost of each unit that is missing.
    pub weight: i64,
}

/// A set of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSet(Vec<u64>);

impl HostSet {
    /// The hosts of `0..count` that `keep` names.
    pub fn of(count: usize, keep: impl Fn(HostIndex) -> bool) -> Self {
        let mut words = vec![0u64; count.div_ceil(64)];
        for host in (0..count as HostIndex).filter(|h| keep(*h)) {
            words[host as usize / 64] |= 1 << (host % 64);
        }
        Self(words)
    }

    /// Whether a host is in it.
    #[inline]
    pub fn contains(&self, host: HostIndex) -> bool {
        self.0.get(host as usize / 64).is_some_and(|w| w >> (host % 64) & 1 == 1)
    }
}

/// Costs between hosts: hosts of one class have the same costs to all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distance {
    class: Vec<u32>,
    classes: usize,
    costs: Vec<i64>,
}

impl Distance {
    /// From `count` × `count` costs, row by row: from each host to each.
    ///
    /// # Panics
    /// Never: missing costs are 0.
    pub fn from_rows(count: usize, costs: &[u32], weight: i64) -> Self {
        use std::collections::HashMap;
        let at = |a: usize, b: usize| costs.get(a * count + b).copied().unwrap_or(0);
        // Classes by row first; then by column among the rows that are left.
        let mut rows: HashMap<&[u32], usize> = HashMap::new();
        let mut firsts = Vec::new();
        let mut row_class = Vec::with_capacity(count);
        for a in 0..count {
            let row = costs.get(a * count..(a + 1) * count).unwrap_or(&[]);
            let class = *rows.entry(row).or_insert_with(|| {
                firsts.push(a);
                firsts.len() - 1
            });
            row_class.push(class);
        }
        let mut columns: HashMap<(usize, Vec<u32>), u32> = HashMap::new();
        let mut class = Vec::with_capacity(count);
        let mut representatives = Vec::new();
        for (b, row) in row_class.into_iter().enumerate() {
            let column: Vec<u32> = firsts.iter().map(|&a| at(a, b)).collect();
            class.push(*columns.entry((row, column)).or_insert_with(|| {
                representatives.push(b);
                representatives.len() as u32 - 1
            }));
        }
        let pairs = representatives.iter().flat_map(|&a| {
            representatives.iter().map(move |&b| i64::from(at(a, b)).saturating_mul(weight))
        });
        let costs = pairs.collect();
        Self { class, classes: representatives.len(), costs }
    }

    /// Cost from one host to another.
    #[inline]
    pub fn between(&self, from: HostIndex, to: HostIndex) -> i64 {
        let (Some(a), Some(b)) = (self.class.get(from as usize), self.class.get(to as usize))
        else {
            return 0;
        };
        self.costs[*a as usize * self.classes + *b as usize]
    }
}

/// Largest sum of weighted amounts.
const LARGEST: i128 = 1 << 60;

impl Model {
    /// Whether all positions exist, all lists have the right length, and no sum can
    /// overflow.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |what: String| Err(Invalid(what));
        let (resources, hosts) = (self.resources.len(), self.hosts.len());
        if hosts >= NOWHERE as usize || self.vms.len() >= u32::MAX as usize {
            return invalid("more hosts or VMs than can be numbered".to_owned());
        }
        for (h, host) in self.hosts.iter().enumerate() {
            if host.capacity.len() != resources || host.safety.len() != resources {
                return invalid(format!("host {h} has not one amount for each resource"));
            }
            if host.capacity.iter().chain(&host.safety).any(|a| *a < 0) || host.running_cost < 0 {
                return invalid(format!("host {h} has a negative amount or cost"));
            }
        }
        for (v, vm) in self.vms.iter().enumerate() {
            self.check_vm(vm).or_else(|what| invalid(format!("VM {v} {what}")))?;
        }
        for (g, group) in self.groups.iter().enumerate() {
            if group.needs.iter().any(|n| *n as usize >= self.groups.len()) {
                return invalid(format!("group {g} needs a group that does not exist"));
            }
        }
        for b in &self.balances {
            if b.first >= resources || b.second >= resources || b.target < 0 || b.weight < 0 {
                return invalid("a balance names a resource that does not exist".to_owned());
            }
        }
        if self.group_move_weight < 0 || self.resources.iter().any(|r| r.weight < 0) {
            return invalid("a weight is negative".to_owned());
        }
        self.check_sums()
    }

    fn check_vm(&self, vm: &Vm) -> Result<(), String> {
        let sets = self.host_sets.len();
        if vm.demand.len() != self.resources.len() {
            return Err("has not one amount for each resource".to_owned());
        }
        let costs = [vm.move_cost, vm.unplaced_cost, vm.stay_cost];
        if vm.demand.iter().chain(&costs).any(|a| *a < 0) {
            return Err("has a negative amount or cost".to_owned());
        }
        if vm.origin != NOWHERE && vm.origin as usize >= self.hosts.len() {
            return Err("is on a host that does not exist".to_owned());
        }
        if vm.groups.iter().any(|g| *g as usize >= self.groups.len()) {
            return Err("is in a group that does not exist".to_owned());
        }
        if vm.groups.iter().enumerate().any(|(i, g)| vm.groups[..i].contains(g)) {
            return Err("is twice in one group".to_owned());
        }
        let named = vm.allowed.iter().chain(vm.preferred.as_ref().map(|(set, _)| set));
        if named.into_iter().any(|s| *s as usize >= sets) {
            return Err("names a set of hosts that does not exist".to_owned());
        }
        Ok(())
    }

    fn check_sums(&self) -> Result<(), Invalid> {
        let mut sum: i128 = 0;
        for (r, resource) in self.resources.iter().enumerate() {
            let used: i128 = self.vms.iter().map(|v| i128::from(v.demand[r])).sum();
            let offered: i128 = self
                .hosts
                .iter()
                .map(|h| i128::from(h.capacity[r]) + i128::from(h.safety[r]))
                .sum();
            sum += used * i128::from(resource.weight) + used + offered;
            for b in self.balances.iter().filter(|b| b.first == r || b.second == r) {
                let scale = i128::from(b.weight) * i128::from(b.target.max(1));
                sum = sum.saturating_add(scale.saturating_mul(used + offered));
            }
        }
        for vm in &self.vms {
            let preferred = vm.preferred.map_or(0, |(_, cost)| cost);
            for cost in [vm.move_cost, vm.unplaced_cost, vm.stay_cost, preferred] {
                sum += i128::from(cost.abs());
            }
        }
        let furthest = self.distance.costs.iter().copied().max().unwrap_or(0);
        sum += i128::from(furthest.max(self.group_move_weight)) * self.vms.len() as i128;
        let mut members = vec![0i128; self.groups.len()];
        self.vms.iter().flat_map(|v| &v.groups).for_each(|g| members[*g as usize] += 1);
        for (group, members) in self.groups.iter().zip(members) {
            sum = sum.saturating_add(i128::from(group.rule.pull.abs()) * members * members);
        }
        if sum >= LARGEST {
            return Err(Invalid("amounts times weights are too large".to_owned()));
        }
        Ok(())
    }

    /// Where all VMs are now.
    pub fn origins(&self) -> Vec<HostIndex> {
        self.vms.iter().map(|v| v.origin).collect()
    }

    /// Whether a VM may run on a host, room and neighbours aside.
    pub fn allows(&self, vm: VmIndex, host: HostIndex) -> bool {
        let set = self.vms[vm as usize].allowed.map(|s| &self.host_sets[s as usize]);
        set.is_none_or(|set| set.contains(host))
    }
}
