//! One worker of the search: simulated annealing within a part of the hosts, over
//! moves of one VM, moves back to where a VM came from, and swaps.

use super::compound::Compound;
use super::model::{HostIndex, NOWHERE, VmIndex};
use super::regret::Regret;
use super::state::State;
use crate::chance::Chance;

/// What being away from its origin weighs for a VM, in temperatures, on top of its
/// cost. There are many hosts to be away on and one to be at home on: without this,
/// chance alone drives all VMs away while it is hot, and what they hold on their
/// origins (transient use) blocks the way for others. About the logarithm of the
/// number of hosts evens it out; where nothing is held, less does.
const HOMESICKNESS: [f64; 2] = [1.0, 5.0];

/// A worker and its part.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    pub(super) state: State<'a>,
    rng: Chance,
    homesickness: f64,
    /// The hosts of its part.
    hosts: Vec<HostIndex>,
    /// Whether each host is in its part.
    inside: Vec<bool>,
    /// The VMs that are on its hosts.
    vms: Vec<VmIndex>,
    /// VMs that it has moved, perhaps several times.
    moved: Vec<VmIndex>,
    regret: Regret,
    compound: Compound,
    /// Whether loads and places are all that costs, groups' moves aside.
    plain: bool,
    /// What a compound may save beside loads and places, if all is plain.
    saving: f64,
}

impl<'a> Worker<'a> {
    pub(super) fn new(state: State<'a>, seed: u64) -> Self {
        let hosts = state.core.hosts;
        let holds = state.core.transient.contains(&true);
        let plain = !state.core.running_costs && state.core.rules.iter().all(|r| r.pull == 0);
        let saving = 3.0 * state.core.move_weight as f64;
        Self {
            state,
            homesickness: HOMESICKNESS[usize::from(holds)],
            rng: Chance::new(seed),
            hosts: Vec::new(),
            inside: vec![false; hosts],
            vms: Vec::new(),
            moved: Vec::new(),
            regret: Regret::default(),
            compound: Compound::default(),
            plain,
            saving,
        }
    }

    /// Takes over a part: hosts, and all VMs on them.
    pub(super) fn take(&mut self, hosts: &[HostIndex]) {
        self.inside.fill(false);
        hosts.iter().for_each(|h| self.inside[*h as usize] = true);
        self.hosts.clear();
        self.hosts.extend_from_slice(hosts);
        self.vms.clear();
        let places = self.state.place.iter().enumerate();
        let inside = &self.inside;
        let here = |place: HostIndex| place != NOWHERE && inside[place as usize];
        self.vms.extend(places.filter(|(_, p)| here(**p)).map(|(v, _)| v as VmIndex));
        self.moved.clear();
    }

    /// Where the VMs that it has moved are now, each once.
    pub(super) fn changes(&mut self) -> Vec<(VmIndex, HostIndex)> {
        self.moved.sort_unstable();
        self.moved.dedup();
        self.moved.iter().map(|vm| (*vm, self.state.place[*vm as usize])).collect()
    }

    /// Tries so many moves at a temperature.
    pub(super) fn anneal(&mut self, moves: u64, temperature: f64) {
        if self.hosts.len() < 2 || self.vms.is_empty() {
            return;
        }
        let look = 20 * self.hosts.len() as u64;
        for i in 0..moves {
            if i % look == 0 {
                self.regret.look(&self.state, &self.hosts);
            }
            self.try_one(temperature);
        }
    }

    fn try_one(&mut self, temperature: f64) {
        let vm = self.vms[self.rng.below(self.vms.len())];
        match self.rng.below(32) {
            0..12 => {
                let to = self.hosts[self.rng.below(self.hosts.len())];
                self.try_shift(vm, to, temperature);
            }
            12..15 => {
                let origin = self.state.core.origin[vm as usize];
                if origin != NOWHERE && self.inside[origin as usize] {
                    self.try_shift(vm, origin, temperature);
                }
            }
            15..22 => {
                let other = self.vms[self.rng.below(self.vms.len())];
                self.try_swap(vm, other, temperature);
            }
            22..26 => self.try_where_it_costs(vm, temperature),
            26..28 => self.try_homecoming(vm, temperature),
            28..30 => self.try_chain(vm, temperature),
            _ => self.try_exchange(vm, temperature),
        }
    }

    /// One of the VMs on a host, if there is any.
    #[inline]
    fn anyone_on(&mut self, host: HostIndex) -> Option<VmIndex> {
        let on = self.state.roll.on(host);
        (!on.is_empty()).then(|| on[self.rng.below(on.len())])
    }

    /// Another VM comes to a host whose cost could be saved, or one leaves, or both.
    fn try_where_it_costs(&mut self, vm: VmIndex, temperature: f64) {
        let Some(host) = self.regret.pick(&mut self.rng) else { return };
        match self.rng.below(4) {
            0 => self.try_shift(vm, host, temperature),
            1 => {
                let to = self.hosts[self.rng.below(self.hosts.len())];
                if let Some(leaver) = self.anyone_on(host) {
                    self.try_shift(leaver, to, temperature);
                }
            }
            _ => {
                if let Some(other) = self.anyone_on(host) {
                    self.try_swap(vm, other, temperature);
                }
            }
        }
    }

    /// A VM goes back to where it came from, and one from there takes its place.
    fn try_homecoming(&mut self, vm: VmIndex, temperature: f64) {
        let origin = self.state.core.origin[vm as usize];
        if origin == NOWHERE || !self.inside[origin as usize] || origin == self.state.place(vm) {
            return;
        }
        if let Some(other) = self.anyone_on(origin) {
            self.try_swap(vm, other, temperature);
        }
    }

    /// A VM goes to a host, and one from there to a third or back to its origin.
    fn try_chain(&mut self, vm: VmIndex, temperature: f64) {
        let vm = match self.rng.below(2) {
            0 => self.regret.pick(&mut self.rng).and_then(|h| self.anyone_on(h)).unwrap_or(vm),
            _ => vm,
        };
        let to = self.hosts[self.rng.below(self.hosts.len())];
        let Some(next) = self.anyone_on(to) else { return };
        let origin = self.state.core.origin[next as usize];
        let mut third = self.hosts[self.rng.below(self.hosts.len())];
        if origin != NOWHERE
            && self.inside[origin as usize]
            && origin != to
            && self.rng.below(2) == 0
        {
            third = origin;
        }
        // Who leaves goes first, so that rules see the room that it makes.
        self.compound.clear().and(next, third).and(vm, to);
        self.try_compound(temperature);
    }

    /// A VM changes places with two of another host.
    fn try_exchange(&mut self, vm: VmIndex, temperature: f64) {
        let host = match self.rng.below(2) {
            0 => self.regret.pick(&mut self.rng),
            _ => None,
        };
        let host = host.unwrap_or_else(|| self.hosts[self.rng.below(self.hosts.len())]);
        let place = self.state.place(vm);
        let (Some(a), Some(b)) = (self.anyone_on(host), self.anyone_on(host)) else { return };
        self.compound.clear().and(a, place).and(b, place).and(vm, host);
        self.try_compound(temperature);
    }

    fn try_compound(&mut self, temperature: f64) {
        let Some(estimate) = self.compound.estimate(&self.state) else { return };
        let steps = self.compound.steps().iter();
        let turns: i64 = steps.clone().map(|(vm, to)| self.state.turns(*vm, *to)).sum();
        let most =
            self.rng.exponential() * temperature - turns as f64 * self.homesickness * temperature;
        // Pulls and the like are only known once the moves are made.
        if self.plain && estimate as f64 - self.saving > most {
            return;
        }
        if self.compound.apply(&mut self.state, |delta| delta as f64 <= most) {
            self.moved.extend(self.compound.steps().iter().map(|(vm, _)| *vm));
        }
    }

    #[inline]
    fn accepts(&mut self, delta: i64, turns: i64, temperature: f64) -> bool {
        let biased = delta as f64 + turns as f64 * self.homesickness * temperature;
        biased <= 0.0 || biased < self.rng.exponential() * temperature
    }

    #[inline]
    fn try_shift(&mut self, vm: VmIndex, to: HostIndex, temperature: f64) {
        let Some(delta) = self.state.shift(vm, to) else { return };
        let turns = self.state.turns(vm, to);
        if self.accepts(delta, turns, temperature) {
            self.state.shift_by(vm, to, delta);
            self.moved.push(vm);
        }
    }

    #[inline]
    fn try_swap(&mut self, a: VmIndex, b: VmIndex, temperature: f64) {
        let Some(delta) = self.state.swap(a, b) else { return };
        let (at, bt) = (self.state.place[a as usize], self.state.place[b as usize]);
        let turns = self.state.turns(a, bt) + self.state.turns(b, at);
        if self.accepts(delta, turns, temperature) {
            self.state.swap_by(a, b, delta);
            self.moved.extend([a, b]);
        }
    }
}
