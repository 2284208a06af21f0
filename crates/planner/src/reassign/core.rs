//! A model laid out for the search: flat arrays, rules that bind nobody left out.

use super::Invalid;
use super::model::{Balance, GroupIndex, GroupRule, HostIndex, Model, NOWHERE, VmIndex};

/// No row: nothing of the kind is counted for the group.
pub(super) const NO_ROW: u32 = u32::MAX;
/// Groups up to this size are counted by looking at their members.
const SMALL: usize = 8;

/// Lists of numbers, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    from: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn of(lists: impl Iterator<Item = Vec<u32>>) -> Self {
        let mut all = Self { from: vec![0], items: Vec::new() };
        for list in lists {
            all.items.extend(list);
            all.from.push(all.items.len() as u32);
        }
        all
    }

    #[inline]
    pub(super) fn at(&self, i: u32) -> &[u32] {
        let i = i as usize;
        &self.items[self.from[i] as usize..self.from[i + 1] as usize]
    }
}

/// What the search reads and never writes.
#[derive(Debug)]
pub struct Core<'a> {
    pub(super) model: &'a Model,
    pub(super) resources: usize,
    pub(super) hosts: usize,
    pub(super) vms: usize,
    pub(super) weight: Vec<i64>,
    pub(super) transient: Vec<bool>,
    /// Demand, resource by resource, VM by VM.
    pub(super) demand: Vec<i64>,
    /// Capacity less safety threshold, resource by resource, host by host.
    pub(super) slack: Vec<i64>,
    /// What all hosts have of each resource.
    pub(super) offered: Vec<i64>,
    pub(super) origin: Vec<HostIndex>,
    pub(super) move_cost: Vec<i64>,
    /// Whether VMs need more of each resource than is below all safety thresholds.
    pub(super) scarce: Vec<bool>,
    /// Whether free amounts cannot match, for each balance.
    pub(super) lopsided: Vec<bool>,
    pub(super) balances: Vec<Balance>,
    /// Groups of each VM whose rule can bind.
    pub(super) groups: Lists,
    /// Groups of each VM whose moves are counted.
    pub(super) counting: Lists,
    pub(super) rules: Vec<GroupRule>,
    pub(super) members: Lists,
    pub(super) needs: Lists,
    pub(super) needed_by: Lists,
    /// Row of the group's count on each host.
    pub(super) host_row: Vec<u32>,
    /// Row of the group's count in each domain.
    pub(super) domain_row: Vec<u32>,
    /// Row of the group's count in each neighbourhood.
    pub(super) near_row: Vec<u32>,
    pub(super) host_rows: usize,
    pub(super) domain_rows: usize,
    pub(super) near_rows: usize,
    pub(super) domain: Vec<u32>,
    pub(super) near: Vec<u32>,
    pub(super) domains: usize,
    pub(super) nears: usize,
    /// Whether the VM's cost or right to be on a host is more than its move cost.
    pub(super) choosy: Vec<bool>,
    pub(super) running_costs: bool,
    /// Cost of each move of the group with the most moves.
    pub(super) move_weight: i64,
}

impl<'a> Core<'a> {
    /// Lays out a model.
    ///
    /// # Errors
    /// What [`Model::check`] refuses.
    pub fn new(model: &'a Model) -> Result<Self, Invalid> {
        model.check()?;
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); model.groups.len()];
        for (v, vm) in model.vms.iter().enumerate() {
            vm.groups.iter().for_each(|g| members[*g as usize].push(v as VmIndex));
        }
        let mut needed_by: Vec<Vec<u32>> = vec![Vec::new(); model.groups.len()];
        let mut needs: Vec<Vec<u32>> = Vec::with_capacity(model.groups.len());
        for (g, group) in model.groups.iter().enumerate() {
            let mut list: Vec<GroupIndex> =
                group.needs.iter().copied().filter(|n| *n as usize != g).collect();
            list.sort_unstable();
            list.dedup();
            list.iter().for_each(|n| needed_by[*n as usize].push(g as GroupIndex));
            needs.push(list);
        }
        let mut core = Self::frame(model);
        core.rows(&members, &needs, &needed_by);
        core.bounds();
        let binds = |g: &u32| {
            let (i, rule) = (*g as usize, &core.rules[*g as usize]);
            core.near_row[i] != NO_ROW
                || core.domain_row[i] != NO_ROW
                || (members[i].len() > 1 && (rule.exclusive || rule.pull != 0))
        };
        core.groups = Lists::of(
            model.vms.iter().map(|vm| vm.groups.iter().copied().filter(|g| binds(g)).collect()),
        );
        let counts = |g: &u32| core.move_weight != 0 && model.groups[*g as usize].rule.counts_moves;
        core.counting = Lists::of(
            model.vms.iter().map(|vm| vm.groups.iter().copied().filter(|g| counts(g)).collect()),
        );
        core.members = Lists::of(members.into_iter());
        core.needs = Lists::of(needs.into_iter());
        core.needed_by = Lists::of(needed_by.into_iter());
        Ok(core)
    }

    fn frame(model: &'a Model) -> Self {
        let (domain, domains) = numbered(model.hosts.iter().map(|h| h.domain));
        let (near, nears) = numbered(model.hosts.iter().map(|h| h.neighbourhood));
        Self {
            model,
            resources: model.resources.len(),
            hosts: model.hosts.len(),
            vms: model.vms.len(),
            weight: model.resources.iter().map(|r| r.weight).collect(),
            transient: model.resources.iter().map(|r| r.transient).collect(),
            demand: model.vms.iter().flat_map(|v| v.demand.iter().copied()).collect(),
            slack: model
                .hosts
                .iter()
                .flat_map(|h| h.capacity.iter().zip(&h.safety).map(|(c, s)| c - s))
                .collect(),
            offered: (0..model.resources.len())
                .map(|r| model.hosts.iter().map(|h| h.capacity[r]).sum())
                .collect(),
            origin: model.vms.iter().map(|v| v.origin).collect(),
            move_cost: model.vms.iter().map(|v| v.move_cost).collect(),
            scarce: Vec::new(),
            lopsided: Vec::new(),
            balances: model.balances.iter().copied().filter(|b| b.weight > 0).collect(),
            groups: Lists::default(),
            counting: Lists::default(),
            rules: model.groups.iter().map(|g| g.rule).collect(),
            members: Lists::default(),
            needs: Lists::default(),
            needed_by: Lists::default(),
            host_row: Vec::new(),
            domain_row: Vec::new(),
            near_row: Vec::new(),
            host_rows: 0,
            domain_rows: 0,
            near_rows: 0,
            domain,
            near,
            domains,
            nears,
            choosy: model
                .vms
                .iter()
                .map(|v| v.allowed.is_some() || v.preferred.is_some() || v.origin == NOWHERE)
                .collect(),
            running_costs: model.hosts.iter().any(|h| h.running_cost > 0),
            move_weight: model.group_move_weight,
        }
    }

    /// Finds what the fleet as a whole has too little of.
    fn bounds(&mut self) {
        let model = self.model;
        let used = |r: usize| model.vms.iter().map(|v| v.demand[r]).sum::<i64>();
        let used: Vec<i64> = (0..self.resources).map(used).collect();
        let safe = |r: usize| model.hosts.iter().map(|h| h.safety[r]).sum::<i64>();
        self.scarce = (0..self.resources).map(|r| used[r] > safe(r)).collect();
        let free = |r: usize| self.offered[r] - used[r];
        let lopsided = self.balances.iter().map(|b| b.target * free(b.first) > free(b.second));
        self.lopsided = lopsided.collect();
    }

    /// Gives rows of counters to the groups that need them.
    fn rows(&mut self, members: &[Vec<u32>], needs: &[Vec<u32>], needed_by: &[Vec<u32>]) {
        let give = |next: &mut usize, wanted: bool| {
            let row = if wanted { *next as u32 } else { NO_ROW };
            *next += usize::from(wanted);
            row
        };
        for (g, rule) in self.rules.iter().enumerate() {
            let counted = rule.exclusive || rule.pull != 0;
            self.host_row.push(give(&mut self.host_rows, counted && members[g].len() > SMALL));
            self.domain_row.push(give(&mut self.domain_rows, rule.spread > 1));
            let linked = !needs[g].is_empty() || !needed_by[g].is_empty();
            self.near_row.push(give(&mut self.near_rows, linked));
        }
    }

    #[inline]
    pub(super) fn demand(&self, vm: VmIndex) -> &[i64] {
        &self.demand[vm as usize * self.resources..][..self.resources]
    }

    #[inline]
    pub(super) fn allows(&self, vm: VmIndex, host: HostIndex) -> bool {
        !self.choosy[vm as usize] || self.model.allows(vm, host)
    }

    /// Cost of a VM being on a host, loads and neighbours aside.
    #[inline]
    pub(super) fn place_cost(&self, vm: VmIndex, host: HostIndex) -> i64 {
        let origin = self.origin[vm as usize];
        if self.choosy[vm as usize] {
            return self.choosy_cost(vm, host);
        }
        if host == origin {
            0
        } else if host == NOWHERE {
            self.model.vms[vm as usize].unplaced_cost
        } else {
            self.move_cost[vm as usize] + self.model.distance.between(origin, host)
        }
    }

    fn choosy_cost(&self, vm: VmIndex, host: HostIndex) -> i64 {
        let known = &self.model.vms[vm as usize];
        if host == NOWHERE {
            return known.unplaced_cost;
        }
        let moved = if known.origin == NOWHERE {
            0
        } else if host != known.origin {
            known.move_cost + self.model.distance.between(known.origin, host)
        } else if self.model.allows(vm, host) {
            0
        } else {
            known.stay_cost
        };
        let away =
            known.preferred.filter(|(set, _)| !self.model.host_sets[*set as usize].contains(host));
        moved + away.map_or(0, |(_, cost)| cost)
    }
}

/// Values as numbers from 0, and how many there are.
fn numbered(values: impl Iterator<Item = u32>) -> (Vec<u32>, usize) {
    let mut known = std::collections::HashMap::new();
    let numbers = values
        .map(|v| {
            let next = known.len() as u32;
            *known.entry(v).or_insert(next)
        })
        .collect();
    (numbers, known.len())
}
