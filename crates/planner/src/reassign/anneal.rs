//! One worker of the search: simulated annealing within a part of the hosts, over
//! moves of one VM, moves back to where a VM came from, and swaps.

use super::model::{HostIndex, NOWHERE, VmIndex};
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
}

impl<'a> Worker<'a> {
    pub(super) fn new(state: State<'a>, seed: u64) -> Self {
        let hosts = state.core.hosts;
        let holds = state.core.transient.contains(&true);
        Self {
            state,
            homesickness: HOMESICKNESS[usize::from(holds)],
            rng: Chance::new(seed),
            hosts: Vec::new(),
            inside: vec![false; hosts],
            vms: Vec::new(),
            moved: Vec::new(),
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
        for _ in 0..moves {
            let vm = self.vms[self.rng.below(self.vms.len())];
            match self.rng.below(16) {
                0..8 => {
                    let to = self.hosts[self.rng.below(self.hosts.len())];
                    self.try_shift(vm, to, temperature);
                }
                8..10 => {
                    let origin = self.state.core.origin[vm as usize];
                    if origin != NOWHERE && self.inside[origin as usize] {
                        self.try_shift(vm, origin, temperature);
                    }
                }
                _ => {
                    let other = self.vms[self.rng.below(self.vms.len())];
                    self.try_swap(vm, other, temperature);
                }
            }
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
