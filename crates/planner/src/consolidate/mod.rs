//! Consolidation: as few hosts as carry the load that is to be expected, with few
//! moves and little overload.
//!
//! A host is judged by its VMs' forecast load: the sum of what is expected plus
//! `k` standard deviations of how far off such forecasts have been. Different `k`
//! make the hysteresis: a host is *relieved* only when what is expected already
//! exceeds it, VMs go only to where there is some margin, and a host is *emptied*
//! only if all its VMs fit elsewhere with a larger margin and it has been on for a
//! while. So what has just been decided is not undone by the next noise.

mod fleet;
mod load;

pub use load::Load;

use std::cmp::Ordering;

use fleet::Fleet;

/// A host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Load it can carry, in the unit of the VMs' loads.
    pub capacity: f64,
    /// Free of each resource that must not run out, its VMs counted; none: only
    /// load counts.
    pub free: Vec<i64>,
    /// Power for a unit of load when full; of empty hosts the thriftiest is switched
    /// on first.
    pub cost: f64,
    /// Rounds since it was switched on.
    pub rounds_on: u32,
    /// It takes VMs.
    pub open: bool,
}

/// A VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vm {
    /// Where it is.
    pub host: usize,
    /// Its load, learnt from its past.
    pub load: Load,
    /// What it takes of each resource that must not run out.
    pub needs: Vec<i64>,
    /// What moving it costs, as its memory.
    pub weight: f64,
    /// It may be moved.
    pub movable: bool,
}

/// The margins, in standard deviations of the forecast's error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// A host without this margin is relieved …
    pub relieve: f64,
    /// … until it has this one.
    pub relieved: f64,
    /// A VM goes only to a host that keeps this margin.
    pub fill: f64,
    /// The same when a host is emptied.
    pub pack: f64,
    /// Rounds a host stays on before it is emptied.
    pub hold: u32,
    /// Hosts that cannot be emptied before no further one is tried in a round.
    pub tries: usize,
    /// Moves in a round at most.
    pub moves: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            relieve: 0.0,
            relieved: 0.3,
            fill: 1.2,
            pack: 1.4,
            hold: 6,
            tries: 8,
            moves: usize::MAX,
        }
    }
}

/// Why a VM moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its host is expected to be overloaded.
    Relieve,
    /// Its host is to be switched off.
    Empty,
}

/// A VM that changes its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which VM.
    pub vm: usize,
    /// The host it leaves.
    pub from: usize,
    /// The host it goes to.
    pub to: usize,
    /// Why.
    pub reason: Reason,
}

/// The moves of one round: each VM at most once. The same hosts and VMs always give
/// the same moves.
#[must_use]
pub fn consolidate(hosts: &[Host], vms: &[Vm], policy: &Policy) -> Vec<Move> {
    let mut fleet = Fleet::new(hosts, vms);
    relieve(&mut fleet, policy);
    empty(&mut fleet, policy);
    fleet.moves(policy.moves)
}

/// Takes VMs off hosts that are expected to be overloaded, and finds them a place:
/// the largest first, each where it leaves the least slack, else on a host that was
/// off.
fn relieve(fleet: &mut Fleet<'_>, policy: &Policy) {
    let mut out = Vec::new();
    for host in 0..fleet.hosts.len() {
        if fleet.on[host].len() < 2 || fleet.slack(host, policy.relieve) >= 0.0 {
            continue;
        }
        while fleet.on[host].len() > 1 && fleet.slack(host, policy.relieved) < 0.0 {
            let Some(vm) = relieving(fleet, host, policy.relieved) else { break };
            fleet.lift(vm);
            out.push((vm, host));
        }
    }
    let load = |vm: usize| fleet.vms[vm].load.expected();
    out.sort_by(|a, b| load(b.0).total_cmp(&load(a.0)).then(a.0.cmp(&b.0)));
    for (vm, from) in out {
        let to = fleet.best_fit(vm, from, policy.fill).or_else(|| fleet.switched_on(vm, from));
        fleet.put(vm, to.unwrap_or(from), Reason::Relieve);
    }
}

/// The VM whose leaving suffices and costs least; if none suffices, the one with
/// the most load.
fn relieving(fleet: &Fleet<'_>, host: usize, margin: f64) -> Option<usize> {
    let suffices = |vm: usize| fleet.slack_without(host, vm, margin) >= 0.0;
    let key = |vm: usize| match suffices(vm) {
        true => (false, fleet.vms[vm].weight),
        false => (true, -fleet.vms[vm].load.expected()),
    };
    let order = |a: &usize, b: &usize| -> Ordering {
        let (x, y) = (key(*a), key(*b));
        x.0.cmp(&y.0).then(x.1.total_cmp(&y.1)).then(a.cmp(b))
    };
    fleet.on[host].iter().copied().filter(|vm| fleet.vms[*vm].movable).min_by(order)
}

/// Empties the least used hosts, each wholly or not at all.
fn empty(fleet: &mut Fleet<'_>, policy: &Policy) {
    let on = |h: &usize| !fleet.on[*h].is_empty();
    let mut used: Vec<usize> = (0..fleet.hosts.len()).filter(on).collect();
    let share = |h: usize| fleet.expected(h) / fleet.hosts[h].capacity;
    used.sort_by(|a, b| share(*a).total_cmp(&share(*b)).then(a.cmp(b)));
    let mut failed = 0;
    for host in used {
        let rested = fleet.hosts[host].rounds_on >= policy.hold;
        if !rested || fleet.on[host].iter().any(|vm| fleet.stays(*vm)) {
            continue;
        }
        if !emptied(fleet, host, policy) {
            failed += 1;
            if failed == policy.tries {
                return;
            }
        }
    }
}

/// Whether all VMs of a host have found a place elsewhere; if not, nothing changes.
fn emptied(fleet: &mut Fleet<'_>, host: usize, policy: &Policy) -> bool {
    let mut vms = fleet.on[host].clone();
    let load = |vm: usize| fleet.vms[vm].load.expected();
    vms.sort_by(|a, b| load(*b).total_cmp(&load(*a)).then(a.cmp(b)));
    let mut placed = Vec::new();
    for vm in &vms {
        let Some(to) = fleet.best_fit(*vm, host, policy.pack) else {
            for vm in placed {
                fleet.lift(vm);
                fleet.put(vm, host, Reason::Empty);
            }
            return false;
        };
        fleet.lift(*vm);
        fleet.put(*vm, to, Reason::Empty);
        placed.push(*vm);
    }
    true
}

#[cfg(test)]
mod tests;
