//! The first answer: whatever must not stay where it is gets the best place that
//! there is, and where there is none, room is made by moving others.

use super::model::{HostIndex, NOWHERE, VmIndex};
use super::state::{NOBODY, State};

/// Hosts on which room is made in turn before a VM is given up.
const HOSTS_TRIED: usize = 24;
/// VMs that leave a host to make room for one.
const LEAVERS: usize = 12;

/// Gives every VM that must leave, or is nowhere, a place, the costliest to leave
/// out first; then relieves hosts that hold more than they may, and parts VMs that
/// exclude each other.
pub(super) fn repair(state: &mut State<'_>) {
    for vm in homeless(state) {
        if !take_best(state, vm, &[]) {
            make_room(state, vm);
        }
    }
    relieve(state);
    part(state);
}

/// VMs that need another place, the most important first.
fn homeless(state: &State<'_>) -> Vec<VmIndex> {
    let core = state.core;
    let vms = 0..core.vms as VmIndex;
    let wanted = vms.filter(|vm| {
        let place = state.place[*vm as usize];
        place == NOWHERE || !core.allows(*vm, place)
    });
    let mut wanted: Vec<VmIndex> = wanted.collect();
    let cost = |vm: VmIndex| core.place_cost(vm, state.place[vm as usize]);
    wanted.sort_by_cached_key(|vm| (std::cmp::Reverse((cost(*vm), state.largest_share(*vm))), *vm));
    wanted
}

/// The cheapest host that can take the VM, other than `except`.
pub(super) fn best(state: &State<'_>, vm: VmIndex, except: HostIndex) -> Option<(i64, HostIndex)> {
    let hosts = (0..state.core.hosts as HostIndex).filter(|h| *h != except);
    hosts.filter_map(|host| Some((state.shift(vm, host)?, host))).min()
}

/// Moves the VM to the cheapest host that can take it, other than `except`.
pub(crate) fn take_best(state: &mut State<'_>, vm: VmIndex, except: &[HostIndex]) -> bool {
    let hosts = (0..state.core.hosts as HostIndex).filter(|h| !except.contains(h));
    let found = hosts.filter_map(|host| Some((state.shift(vm, host)?, host))).min();
    let Some((delta, host)) = found else { return false };
    state.shift_by(vm, host, delta);
    true
}

/// Moves others off a host until the VM fits there.
fn make_room(state: &mut State<'_>, vm: VmIndex) -> bool {
    let core = state.core;
    let mut hosts: Vec<(i128, HostIndex)> = (0..core.hosts as HostIndex)
        .filter(|h| *h != state.place[vm as usize])
        .filter(|h| core.allows(vm, *h) && state.rules_allow(vm, *h, NOBODY))
        .map(|h| (shortage(state, vm, h), h))
        .collect();
    hosts.sort_unstable();
    hosts.into_iter().take(HOSTS_TRIED).any(|(_, host)| make_room_on(state, vm, host))
}

/// How much the VM lacks on a host, as shares of what the fleet has.
fn shortage(state: &State<'_>, vm: VmIndex, host: HostIndex) -> i128 {
    let lacks = state.room(host).iter().zip(state.core.demand(vm)).zip(&state.core.offered);
    lacks
        .map(|((room, demand), offered)| {
            i128::from((demand - room).max(0)) * 1_000_000_000 / i128::from((*offered).max(1))
        })
        .sum()
}

fn make_room_on(state: &mut State<'_>, vm: VmIndex, host: HostIndex) -> bool {
    let mut undo: Vec<VmIndex> = Vec::new();
    let lacks = |state: &State<'_>| -> Vec<i64> {
        let room = state.room(host).iter().zip(state.core.demand(vm));
        room.map(|(room, demand)| (demand - room).max(0)).collect()
    };
    for _ in 0..LEAVERS {
        let missing = lacks(state);
        if missing.iter().all(|m| *m == 0) {
            break;
        }
        let here = (0..state.core.vms as VmIndex).filter(|v| state.place[*v as usize] == host);
        // What helps most, then what is cheapest.
        let mut leavers: Vec<(i64, VmIndex)> = here
            .filter_map(|v| {
                let helps = helps(state, v, host, &missing);
                (helps > 0).then_some((-helps, v))
            })
            .collect();
        leavers.sort_unstable();
        let left = leavers.into_iter().take(LEAVERS).find_map(|(_, v)| {
            let (delta, to) = best(state, v, host)?;
            Some((v, to, delta))
        });
        let Some((leaver, to, delta)) = left else { break };
        state.shift_by(leaver, to, delta);
        undo.push(leaver);
    }
    if let Some(delta) = state.shift(vm, host) {
        state.shift_by(vm, host, delta);
        return true;
    }
    for leaver in undo.into_iter().rev() {
        state.relocate(leaver, host);
    }
    false
}

/// How much of what is missing a VM's leaving would free, in thousandths.
fn helps(state: &State<'_>, vm: VmIndex, host: HostIndex, missing: &[i64]) -> i64 {
    let core = state.core;
    let held = core.origin[vm as usize] == host;
    let each = core.demand(vm).iter().zip(missing).zip(&core.transient);
    each.filter(|((_, missing), transient)| **missing > 0 && !(held && **transient))
        .map(|((demand, missing), _)| (demand * 1000 / missing).min(1000))
        .sum()
}

/// Takes VMs off hosts that hold more than they may.
fn relieve(state: &mut State<'_>) {
    for host in 0..state.core.hosts as HostIndex {
        for _ in 0..state.on(host) {
            let missing = state.excess(host);
            if missing.iter().all(|m| *m == 0) {
                break;
            }
            let here = (0..state.core.vms as VmIndex).filter(|v| state.place[*v as usize] == host);
            let useful = here.filter(|v| {
                state.core.demand(*v).iter().zip(&missing).any(|(d, m)| *d > 0 && *m > 0)
            });
            let leaver =
                useful.filter_map(|v| best(state, v, host).map(|(delta, to)| (delta, v, to))).min();
            let Some((delta, vm, to)) = leaver else { break };
            state.shift_by(vm, to, delta);
        }
    }
}

/// Parts VMs that exclude each other and are on one host.
fn part(state: &mut State<'_>) {
    for vm in 0..state.core.vms as VmIndex {
        let place = state.place[vm as usize];
        let core = state.core;
        let beside = core.groups.at(vm).iter().any(|g| {
            place != NOWHERE && core.rules[*g as usize].exclusive && state.in_group(*g, place) > 1
        });
        if beside {
            take_best(state, vm, &[]);
        }
    }
}
