//! An assignment with everything that follows from it kept up to date, so that the
//! cost of a move is found without looking at the rest.

use super::core::{Core, NO_ROW};
use super::model::{GroupIndex, HostIndex, NOWHERE, VmIndex};
use super::roll::Roll;

/// A place that no VM has: "no partner".
pub(super) const NOBODY: VmIndex = VmIndex::MAX;

/// An assignment and its sums.
#[derive(Debug, Clone)]
pub(crate) struct State<'a> {
    pub(super) core: &'a Core<'a>,
    /// Where each VM is.
    pub(super) place: Vec<HostIndex>,
    pub(super) cost: i64,
    /// For each host: what is left of each resource, then what is used above the
    /// safety threshold (mostly negative).
    sums: Vec<i64>,
    /// VMs on each host.
    pub(super) roll: Roll,
    on_host: Vec<u32>,
    in_domain: Vec<u32>,
    /// Domains that each group with a spread is in.
    domains: Vec<u32>,
    in_near: Vec<u32>,
    moves: Moves,
}

/// How many VMs of each group have moved.
#[derive(Debug, Clone)]
struct Moves {
    of: Vec<u32>,
    /// How many groups have so many moves.
    groups: Vec<u32>,
    most: usize,
}

impl Moves {
    fn add(&mut self, group: GroupIndex) {
        let of = &mut self.of[group as usize];
        self.groups[*of as usize] -= 1;
        *of += 1;
        let now = *of as usize;
        if self.groups.len() == now {
            self.groups.push(0);
        }
        self.groups[now] += 1;
        self.most = self.most.max(now);
    }

    fn take(&mut self, group: GroupIndex) {
        let of = &mut self.of[group as usize];
        self.groups[*of as usize] -= 1;
        *of -= 1;
        self.groups[*of as usize] += 1;
        if self.groups[self.most] == 0 {
            self.most -= 1;
        }
    }
}

impl<'a> State<'a> {
    /// The state of an assignment, valid or not.
    pub(crate) fn new(core: &'a Core<'a>, place: &[HostIndex]) -> Self {
        let r = core.resources;
        let mut sums = vec![0; core.hosts * r * 2];
        for (h, host) in core.model.hosts.iter().enumerate() {
            let sums = &mut sums[h * r * 2..][..2 * r];
            for i in 0..r {
                sums[i] = host.capacity[i];
                sums[r + i] = -host.safety[i];
            }
        }
        let mut state = Self {
            core,
            place: vec![NOWHERE; core.vms],
            cost: 0,
            sums,
            roll: Roll::new(core.hosts, core.vms),
            on_host: vec![0; core.host_rows * core.hosts],
            in_domain: vec![0; core.domain_rows * core.domains],
            domains: vec![0; core.domain_rows],
            in_near: vec![0; core.near_rows * core.nears],
            moves: Moves {
                of: vec![0; core.rules.len()],
                groups: vec![core.rules.len() as u32],
                most: 0,
            },
        };
        // Every VM begins nowhere, with its origin held for what is transient.
        for vm in 0..core.vms as VmIndex {
            state.hold(vm, -1);
            for &g in state.counting(vm) {
                state.moves.add(g);
            }
            state.cost += core.place_cost(vm, NOWHERE);
        }
        state.cost += core.move_weight * state.moves.most as i64;
        for h in 0..core.hosts {
            state.cost += state.host_cost(h as HostIndex);
        }
        for (vm, &to) in place.iter().enumerate() {
            state.relocate(vm as VmIndex, to);
        }
        state
    }

    fn counting(&self, vm: VmIndex) -> &'a [u32] {
        if self.core.origin[vm as usize] == NOWHERE { &[] } else { self.core.counting.at(vm) }
    }

    /// Changes what is left on the VM's origin by its transient demand.
    fn hold(&mut self, vm: VmIndex, sign: i64) {
        let core = self.core;
        let origin = core.origin[vm as usize];
        if origin == NOWHERE {
            return;
        }
        let sums = &mut self.sums[origin as usize * core.resources * 2..];
        for (r, demand) in core.demand(vm).iter().enumerate() {
            if core.transient[r] {
                sums[r] += sign * demand;
            }
        }
    }

    /// What is left of each resource on a host.
    #[inline]
    pub(super) fn room(&self, host: HostIndex) -> &[i64] {
        &self.sums[host as usize * self.core.resources * 2..][..self.core.resources]
    }

    /// What is used of each resource above the safety threshold.
    #[inline]
    pub(super) fn over(&self, host: HostIndex) -> &[i64] {
        let r = self.core.resources;
        &self.sums[host as usize * r * 2 + r..][..r]
    }

    /// Where a VM is.
    pub(crate) fn place(&self, vm: VmIndex) -> HostIndex {
        self.place[vm as usize]
    }

    /// How many VMs are on a host.
    pub(crate) fn on(&self, host: HostIndex) -> u32 {
        self.roll.on(host).len() as u32
    }

    /// The largest share of any resource of the whole fleet that a VM needs, in
    /// billionths.
    pub(crate) fn largest_share(&self, vm: VmIndex) -> i128 {
        let shares = self.core.demand(vm).iter().zip(&self.core.offered);
        let share = |d: i64, o: i64| i128::from(d) * 1_000_000_000 / i128::from(o.max(1));
        shares.map(|(d, o)| share(*d, *o)).max().unwrap_or(0)
    }

    /// How much of each resource a host lacks for a VM that is not there.
    pub(crate) fn missing(&self, vm: VmIndex, host: HostIndex) -> Vec<i64> {
        let back = self.core.origin[vm as usize] == host;
        let each = self.room(host).iter().zip(self.core.demand(vm)).zip(&self.core.transient);
        let lacks = each.map(
            |((room, demand), held)| {
                if back && *held { 0 } else { (demand - room).max(0) }
            },
        );
        lacks.collect()
    }

    /// Groups whose rule keeps a VM off a host because another one is there.
    pub(crate) fn excluded_by(&self, vm: VmIndex, host: HostIndex) -> impl Iterator<Item = u32> {
        let groups = self.core.groups.at(vm).iter().copied();
        groups.filter(move |g| {
            self.core.rules[*g as usize].exclusive
                && self.place[vm as usize] != host
                && self.in_group(*g, host) > 0
        })
    }

    /// Groups that would be in too few domains if a VM went to a host.
    pub(crate) fn unspread_by(&self, vm: VmIndex, host: HostIndex) -> impl Iterator<Item = u32> {
        let from = self.place[vm as usize];
        let groups = self.core.groups.at(vm).iter().copied();
        groups.filter(move |g| from != NOWHERE && !self.spread_allows(*g, from, host))
    }

    /// What a host's VMs use above its capacity.
    pub(super) fn excess(&self, host: HostIndex) -> Vec<i64> {
        let slack = &self.core.slack[host as usize * self.core.resources..];
        self.over(host).iter().zip(slack).map(|(over, slack)| (over - slack).max(0)).collect()
    }

    fn host_cost(&self, host: HostIndex) -> i64 {
        let core = self.core;
        let over = self.over(host);
        let mut cost = 0;
        for (o, w) in over.iter().zip(&core.weight) {
            cost += w * (*o).max(0);
        }
        let slack = &core.slack[host as usize * core.resources..][..core.resources];
        for b in &core.balances {
            let free = |i: usize| slack[i] - over[i];
            cost += b.weight * (b.target * free(b.first) - free(b.second)).max(0);
        }
        cost
    }

    /// Change of a host's load and balance cost with `sign` × the difference of two
    /// demands (`plus` − `minus`).
    #[inline]
    pub(super) fn load_delta(
        &self,
        host: HostIndex,
        plus: &[i64],
        minus: Option<&[i64]>,
        sign: i64,
    ) -> i64 {
        let core = self.core;
        let over = self.over(host);
        let change = |i: usize| sign * (plus[i] - minus.map_or(0, |m| m[i]));
        let mut delta = 0;
        for (i, (over, weight)) in over.iter().zip(&core.weight).enumerate() {
            delta += weight * ((over + change(i)).max(0) - (*over).max(0));
        }
        if !core.balances.is_empty() {
            let slack = &core.slack[host as usize * core.resources..][..core.resources];
            for b in &core.balances {
                let free = |i: usize| slack[i] - over[i];
                let before = b.target * free(b.first) - free(b.second);
                let after = before - b.target * change(b.first) + change(b.second);
                delta += b.weight * (after.max(0) - before.max(0));
            }
        }
        delta
    }

    /// How many VMs of a group are on a host.
    #[inline]
    pub(super) fn in_group(&self, group: GroupIndex, host: HostIndex) -> u32 {
        let row = self.core.host_row[group as usize];
        if row != NO_ROW {
            return self.on_host[row as usize * self.core.hosts + host as usize];
        }
        let members = self.core.members.at(group).iter();
        members.filter(|m| self.place[**m as usize] == host).count() as u32
    }

    fn near(&self, group: GroupIndex, near: u32) -> u32 {
        let row = self.core.near_row[group as usize] as usize;
        self.in_near[row * self.core.nears + near as usize]
    }

    /// Whether the host has room for the VM, after `leaving` (or [`NOBODY`]) has left it.
    #[inline]
    pub(super) fn fits(&self, vm: VmIndex, host: HostIndex, leaving: VmIndex) -> bool {
        let core = self.core;
        let room = self.room(host);
        let back = core.origin[vm as usize] == host;
        let demand = core.demand(vm);
        if leaving == NOBODY {
            if !back {
                return room.iter().zip(demand).all(|(room, demand)| demand <= room);
            }
            let mut all = room.iter().zip(demand).zip(&core.transient);
            return all.all(|((room, demand), held)| *held || demand <= room);
        }
        let stays_held = core.origin[leaving as usize] == host;
        let freed = core.demand(leaving);
        (0..room.len()).all(|i| {
            let freed = if stays_held && core.transient[i] { 0 } else { freed[i] };
            let taken = if back && core.transient[i] { 0 } else { demand[i] };
            taken <= room[i] + freed
        })
    }

    /// Whether the rules of the VM's groups let it go to a host, where `partner` (or
    /// [`NOBODY`]) goes the other way at the same time.
    pub(super) fn rules_allow(&self, vm: VmIndex, to: HostIndex, partner: VmIndex) -> bool {
        let core = self.core;
        let from = self.place[vm as usize];
        for &g in core.groups.at(vm) {
            if partner != NOBODY && core.groups.at(partner).contains(&g) {
                continue; // they change places: nothing changes for the group
            }
            let rule = &core.rules[g as usize];
            if rule.exclusive && self.in_group(g, to) > 0 {
                return false;
            }
            if from != NOWHERE && !self.spread_allows(g, from, to) {
                return false;
            }
            if core.near_row[g as usize] != NO_ROW && !self.needs_allow(g, from, to, partner) {
                return false;
            }
        }
        true
    }

    fn spread_allows(&self, g: GroupIndex, from: HostIndex, to: HostIndex) -> bool {
        let core = self.core;
        let row = core.domain_row[g as usize];
        if row == NO_ROW {
            return true;
        }
        let (from, to) = (core.domain[from as usize], core.domain[to as usize]);
        let counts = &self.in_domain[row as usize * core.domains..][..core.domains];
        let lost = u32::from(from != to && counts[from as usize] == 1);
        let won = u32::from(from != to && counts[to as usize] == 0);
        let now = self.domains[row as usize];
        won >= lost || now + won - lost >= core.rules[g as usize].spread
    }

    fn needs_allow(&self, g: GroupIndex, from: HostIndex, to: HostIndex, partner: VmIndex) -> bool {
        let core = self.core;
        let to = core.near[to as usize];
        if from != NOWHERE {
            let from = core.near[from as usize];
            if from == to {
                return true;
            }
            let last = self.near(g, from) == 1;
            if last && core.needed_by.at(g).iter().any(|x| self.near(*x, from) > 0) {
                return false;
            }
        }
        if self.near(g, to) > 0 {
            return true;
        }
        core.needs.at(g).iter().all(|n| {
            let leaves = partner != NOBODY && core.groups.at(partner).contains(n);
            self.near(*n, to) > u32::from(leaves)
        })
    }

    /// Change of cost if the VM goes to a host; `None` if it may not.
    #[inline]
    pub(crate) fn shift(&self, vm: VmIndex, to: HostIndex) -> Option<i64> {
        let from = self.place[vm as usize];
        let may = from != to
            && self.core.allows(vm, to)
            && self.fits(vm, to, NOBODY)
            && self.rules_allow(vm, to, NOBODY);
        may.then(|| self.delta(vm, to))
    }

    /// Change of cost if the VM goes to a host, allowed or not.
    #[inline]
    pub(crate) fn delta(&self, vm: VmIndex, to: HostIndex) -> i64 {
        let core = self.core;
        let from = self.place[vm as usize];
        let demand = core.demand(vm);
        let mut delta = core.place_cost(vm, to) - core.place_cost(vm, from);
        if from != NOWHERE {
            delta += self.load_delta(from, demand, None, -1);
        }
        if to != NOWHERE {
            delta += self.load_delta(to, demand, None, 1);
        }
        if core.running_costs {
            delta += self.running_delta(from, to);
        }
        delta += self.pull_delta(vm, to, NOBODY);
        delta + core.move_weight * self.most_delta(vm, to)
    }

    /// How much the VM's going to a host would change the two hosts' load costs.
    pub(super) fn load_change(&self, vm: VmIndex, to: HostIndex) -> f64 {
        let demand = self.core.demand(vm);
        let from = self.load_delta(self.place[vm as usize], demand, None, -1);
        from.abs() as f64 + self.load_delta(to, demand, None, 1).abs() as f64
    }

    fn running_delta(&self, from: HostIndex, to: HostIndex) -> i64 {
        let hosts = &self.core.model.hosts;
        let stops = from != NOWHERE && self.on(from) == 1;
        let starts = to != NOWHERE && self.on(to) == 0;
        let cost = |h: HostIndex| hosts[h as usize].running_cost;
        (if starts { cost(to) } else { 0 }) - (if stops { cost(from) } else { 0 })
    }

    /// Change of what separate and joined pairs cost.
    fn pull_delta(&self, vm: VmIndex, to: HostIndex, partner: VmIndex) -> i64 {
        let core = self.core;
        let from = self.place[vm as usize];
        let mut delta = 0;
        for &g in core.groups.at(vm) {
            let pull = core.rules[g as usize].pull;
            if pull == 0 || (partner != NOBODY && core.groups.at(partner).contains(&g)) {
                continue;
            }
            let count = |h: HostIndex| {
                if h == NOWHERE { 0 } else { i64::from(self.in_group(g, h)) }
            };
            let left = if from == NOWHERE { 0 } else { count(from) - 1 };
            delta -= pull * (count(to) - left);
        }
        delta
    }

    /// Whether the VM going to a host makes it one that has moved, or no longer one.
    pub(super) fn turns(&self, vm: VmIndex, to: HostIndex) -> i64 {
        let origin = self.core.origin[vm as usize];
        i64::from(to != origin) - i64::from(self.place[vm as usize] != origin)
    }

    /// Change of the most moves that a group has.
    fn most_delta(&self, vm: VmIndex, to: HostIndex) -> i64 {
        let turns = self.turns(vm, to);
        if turns == 0 || self.core.move_weight == 0 || self.counting(vm).is_empty() {
            return 0;
        }
        let (of, most) = (&self.moves.of, self.moves.most);
        let mut at_most = self.counting(vm).iter().filter(|g| of[**g as usize] as usize == most);
        if turns > 0 {
            return i64::from(at_most.next().is_some());
        }
        -i64::from(at_most.count() == self.moves.groups[most] as usize)
    }

    /// Change of cost if two VMs change places; `None` if they may not.
    #[inline]
    pub(super) fn swap(&mut self, a: VmIndex, b: VmIndex) -> Option<i64> {
        let core = self.core;
        let (at, bt) = (self.place[a as usize], self.place[b as usize]);
        let may = at != bt
            && at != NOWHERE
            && bt != NOWHERE
            && self.fits(a, bt, b)
            && self.fits(b, at, a)
            && core.allows(a, bt)
            && core.allows(b, at)
            && self.rules_allow(a, bt, b)
            && self.rules_allow(b, at, a);
        may.then(|| self.swap_delta(a, b))
    }

    fn swap_delta(&mut self, a: VmIndex, b: VmIndex) -> i64 {
        let core = self.core;
        let (at, bt) = (self.place[a as usize], self.place[b as usize]);
        let (da, db) = (core.demand(a), core.demand(b));
        core.place_cost(a, bt) - core.place_cost(a, at) + core.place_cost(b, at)
            - core.place_cost(b, bt)
            + self.load_delta(at, db, Some(da), 1)
            + self.load_delta(bt, da, Some(db), 1)
            + self.pull_delta(a, bt, b)
            + self.pull_delta(b, at, a)
            + core.move_weight * self.most_delta_of_swap(a, b)
    }

    fn most_delta_of_swap(&mut self, a: VmIndex, b: VmIndex) -> i64 {
        let (at, bt) = (self.place[a as usize], self.place[b as usize]);
        let (ta, tb) = (self.turns(a, bt), self.turns(b, at));
        if self.core.move_weight == 0 || (ta == 0 && tb == 0) {
            return 0;
        }
        if ta == 0 {
            return self.most_delta(b, at);
        }
        if tb == 0 {
            return self.most_delta(a, bt);
        }
        let before = self.moves.most as i64;
        self.turn(a, ta);
        self.turn(b, tb);
        let after = self.moves.most as i64;
        self.turn(a, -ta);
        self.turn(b, -tb);
        after - before
    }

    fn turn(&mut self, vm: VmIndex, turns: i64) {
        for &g in self.counting(vm) {
            match turns {
                1 => self.moves.add(g),
                -1 => self.moves.take(g),
                _ => {}
            }
        }
    }

    /// Moves the VM, allowed or not.
    pub(crate) fn relocate(&mut self, vm: VmIndex, to: HostIndex) {
        let from = self.place[vm as usize];
        if from != to {
            let delta = self.delta(vm, to);
            self.shift_by(vm, to, delta);
        }
    }

    /// Moves the VM, whose change of cost is known.
    pub(super) fn shift_by(&mut self, vm: VmIndex, to: HostIndex, delta: i64) {
        let origin = self.core.origin[vm as usize];
        let from = self.place[vm as usize];
        self.cost += delta;
        self.turn(vm, self.turns(vm, to));
        if from == origin {
            self.hold(vm, -1);
        } else if to == origin {
            self.hold(vm, 1);
        }
        self.tally(vm, from, false);
        self.tally(vm, to, true);
        self.place[vm as usize] = to;
    }

    /// Lets two VMs change places, whose change of cost is known.
    pub(super) fn swap_by(&mut self, a: VmIndex, b: VmIndex, delta: i64) {
        let (at, bt) = (self.place[a as usize], self.place[b as usize]);
        self.shift_by(a, bt, delta);
        self.shift_by(b, at, 0);
    }

    /// Adds the VM to a host's sums and counts, or takes it out.
    fn tally(&mut self, vm: VmIndex, host: HostIndex, adds: bool) {
        if host == NOWHERE {
            return;
        }
        let core = self.core;
        let (r, h) = (core.resources, host as usize);
        let sign = if adds { 1 } else { -1 };
        let sums = &mut self.sums[h * r * 2..][..2 * r];
        for (i, demand) in core.demand(vm).iter().enumerate() {
            sums[i] -= sign * demand;
            sums[r + i] += sign * demand;
        }
        let step = |count: &mut u32| *count = count.wrapping_add_signed(sign as i32);
        if adds {
            self.roll.enter(vm, host);
        } else {
            self.roll.leave(vm, host);
        }
        for &g in core.groups.at(vm) {
            let g = g as usize;
            if core.host_row[g] != NO_ROW {
                step(&mut self.on_host[core.host_row[g] as usize * core.hosts + h]);
            }
            if core.domain_row[g] != NO_ROW {
                let row = core.domain_row[g] as usize;
                let cell = &mut self.in_domain[row * core.domains + core.domain[h] as usize];
                let edge = if adds { *cell == 0 } else { *cell == 1 };
                step(cell);
                if edge {
                    step(&mut self.domains[row]);
                }
            }
            if core.near_row[g] != NO_ROW {
                let row = core.near_row[g] as usize;
                step(&mut self.in_near[row * core.nears + core.near[h] as usize]);
            }
        }
    }

    /// What is broken about a group's spread and needs, and about the needs of those
    /// who need it: the domains that are missing, and neighbourhood, who and whom.
    pub(super) fn faults(&self, g: GroupIndex) -> (u32, Vec<(u32, GroupIndex, GroupIndex)>) {
        let core = self.core;
        let row = core.domain_row[g as usize];
        let short = match row {
            NO_ROW => 0,
            row => core.rules[g as usize].spread.saturating_sub(self.domains[row as usize]),
        };
        let mut unserved = Vec::new();
        if core.near_row[g as usize] == NO_ROW {
            return (short, unserved);
        }
        for near in 0..core.nears as u32 {
            if self.near(g, near) > 0 {
                let missing = core.needs.at(g).iter().filter(|x| self.near(**x, near) == 0);
                unserved.extend(missing.map(|x| (near, g, *x)));
            } else {
                let left = core.needed_by.at(g).iter().filter(|x| self.near(**x, near) > 0);
                unserved.extend(left.map(|x| (near, *x, g)));
            }
        }
        (short, unserved)
    }
}
