//! Several moves at once: chains and exchanges, where only the end needs room.

use super::model::{HostIndex, NOWHERE, VmIndex};
use super::state::{NOBODY, State};

/// Moves of distinct VMs, made all or none. Its lists are kept between uses.
#[derive(Debug, Default)]
pub(super) struct Compound {
    steps: Vec<(VmIndex, HostIndex)>,
    /// Hosts that any step leaves or enters.
    hosts: Vec<HostIndex>,
    /// For each of those: how much more is used of each resource, then how much less
    /// is left of it. They differ by what is held on origins.
    changes: Vec<i64>,
    undo: Vec<(VmIndex, HostIndex)>,
}

impl Compound {
    /// Begins with no step.
    pub(super) fn clear(&mut self) -> &mut Self {
        self.steps.clear();
        self
    }

    /// Adds a step. A VM that has one already is passed over.
    pub(super) fn and(&mut self, vm: VmIndex, to: HostIndex) -> &mut Self {
        if self.steps.iter().all(|(other, _)| *other != vm) {
            self.steps.push((vm, to));
        }
        self
    }

    pub(super) fn steps(&self) -> &[(VmIndex, HostIndex)] {
        &self.steps
    }

    /// The change of cost in loads and places if there is room for all at the end;
    /// `None` if there is not.
    pub(super) fn estimate(&mut self, state: &State<'_>) -> Option<i64> {
        let (core, r) = (state.core, state.core.resources);
        self.hosts.clear();
        self.changes.clear();
        let mut delta = 0;
        for i in 0..self.steps.len() {
            let (vm, to) = self.steps[i];
            let from = state.place(vm);
            if from == to || from == NOWHERE || to == NOWHERE || !core.allows(vm, to) {
                return None;
            }
            delta += core.place_cost(vm, to) - core.place_cost(vm, from);
            self.change(state, vm, from, -1);
            self.change(state, vm, to, 1);
        }
        for (host, change) in self.hosts.iter().zip(self.changes.chunks_exact(2 * r)) {
            let (used, taken) = change.split_at(r);
            let mut each = taken.iter().zip(state.room(*host));
            if !each.all(|(taken, room)| *taken <= 0 || taken <= room) {
                return None;
            }
            delta += state.load_delta(*host, used, None, 1);
        }
        Some(delta)
    }

    /// Notes that a host gets (1) or loses (-1) a VM.
    fn change(&mut self, state: &State<'_>, vm: VmIndex, host: HostIndex, sign: i64) {
        let (core, r) = (state.core, state.core.resources);
        let known = self.hosts.iter().position(|h| *h == host);
        let at = known.unwrap_or_else(|| {
            self.hosts.push(host);
            self.changes.resize(self.hosts.len() * 2 * r, 0);
            self.hosts.len() - 1
        });
        let (used, taken) = self.changes[at * 2 * r..][..2 * r].split_at_mut(r);
        let home = core.origin[vm as usize] == host;
        for (i, demand) in core.demand(vm).iter().enumerate() {
            used[i] += sign * demand;
            taken[i] += if home && core.transient[i] { 0 } else { sign * demand };
        }
    }

    /// Makes the moves, one after the other, if all rules allow each; otherwise, or if
    /// `keep` refuses the change of cost, nothing has changed in the end.
    pub(super) fn apply(&mut self, state: &mut State<'_>, keep: impl FnOnce(i64) -> bool) -> bool {
        let before = state.cost;
        self.undo.clear();
        let mut allowed = true;
        for &(vm, to) in &self.steps {
            allowed = state.rules_allow(vm, to, NOBODY);
            if !allowed {
                break;
            }
            self.undo.push((vm, state.place(vm)));
            state.relocate(vm, to);
        }
        let kept = allowed && keep(state.cost - before);
        if !kept {
            while let Some((vm, from)) = self.undo.pop() {
                state.relocate(vm, from);
            }
        }
        kept
    }
}
