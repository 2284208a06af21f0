//! Whether a fleet survives the loss of hosts: every protected VM of the lost ones
//! finds a place on those that are left; and who is let in under that condition.

use std::cmp::Reverse;

use types::{Admission, Fleet, HostId};

use super::compile::rank;
use crate::reassign::{Core, HostIndex, Model, NOWHERE, State, VmIndex, take_best};

/// Takes VMs that were to be started out of an assignment, the least important and
/// largest first, until the failures cost no more VMs than they
/// would without any of them. Returns who was refused.
pub(super) fn admit(
    fleet: &Fleet,
    model: &Model,
    place: &mut [HostIndex],
    failures: u32,
) -> Vec<VmIndex> {
    let started = (0..place.len() as VmIndex)
        .filter(|vm| model.vms[*vm as usize].origin == NOWHERE && place[*vm as usize] != NOWHERE);
    let size = |vm: VmIndex| -> i128 {
        let offered =
            |r: usize| model.hosts.iter().map(|h| i128::from(h.capacity[r])).sum::<i128>();
        let demand = model.vms[vm as usize].demand.iter().enumerate();
        demand.map(|(r, d)| i128::from(*d) * 1_000_000_000 / offered(r).max(1)).max().unwrap_or(0)
    };
    let mut started: Vec<VmIndex> = started.collect();
    started
        .sort_by_cached_key(|vm| Reverse((rank(fleet, &fleet.vms[*vm as usize]), size(*vm), *vm)));
    let losses =
        |place: &[HostIndex]| survives(fleet, model, place, failures).map_or(0, |a| a.lost.len());
    if started.is_empty() || losses(place) == 0 {
        return Vec::new();
    }
    let mut without = place.to_vec();
    started.iter().for_each(|vm| without[*vm as usize] = NOWHERE);
    let inevitable = losses(&without);
    let mut refused = Vec::new();
    for vm in started {
        if losses(place) <= inevitable {
            break;
        }
        place[vm as usize] = NOWHERE;
        refused.push(vm);
    }
    refused
}

/// Plays so many failures: of every host, each together with those that carry most
/// beside it. `None` for no failure.
pub(super) fn survives(
    fleet: &Fleet,
    model: &Model,
    place: &[HostIndex],
    failures: u32,
) -> Option<Admission> {
    if failures == 0 {
        return None;
    }
    let mut fresh = model.clone();
    // What failed holds nothing, and who is restarted pays nothing for moving.
    fresh.vms.iter_mut().for_each(|vm| vm.origin = NOWHERE);
    fresh.resources.iter_mut().for_each(|r| r.transient = false);
    let core = Core::new(&fresh).ok()?;
    let mut state = State::new(&core, place);
    let mut heaviest: Vec<(std::cmp::Reverse<u32>, HostIndex)> =
        (0..fleet.hosts.len() as HostIndex).map(|h| (std::cmp::Reverse(state.on(h)), h)).collect();
    heaviest.sort_unstable();
    let mut worst = Admission { failures, fails_with: Vec::new(), lost: Vec::new() };
    for (_, host) in &heaviest {
        let others = heaviest.iter().map(|(_, h)| *h).filter(|h| h != host);
        let dead: Vec<HostIndex> =
            std::iter::once(*host).chain(others.take(failures as usize - 1)).collect();
        let lost = lost(fleet, &mut state, &dead);
        if lost.len() > worst.lost.len() {
            let name = |h: &HostIndex| -> HostId { fleet.hosts[*h as usize].name.clone() };
            worst.fails_with = dead.iter().map(name).collect();
            worst.lost = lost.iter().map(|vm| fleet.vms[*vm as usize].name.clone()).collect();
        }
    }
    Some(worst)
}

/// Protected VMs that find no place once these hosts are dead; the state is the same
/// again afterwards.
fn lost(fleet: &Fleet, state: &mut State<'_>, dead: &[HostIndex]) -> Vec<VmIndex> {
    let protected = |vm: &VmIndex| {
        let rank = rank(fleet, &fleet.vms[*vm as usize]) as u32;
        fleet.policy.protected_tiers.is_none_or(|tiers| rank < tiers)
    };
    let mut restarted: Vec<(VmIndex, HostIndex)> = (0..fleet.vms.len() as VmIndex)
        .map(|vm| (vm, state.place(vm)))
        .filter(|(_, host)| dead.contains(host))
        .collect();
    let largest = |vm: VmIndex| std::cmp::Reverse(state.largest_share(vm));
    restarted
        .sort_by_cached_key(|(vm, _)| (rank(fleet, &fleet.vms[*vm as usize]), largest(*vm), *vm));
    for (vm, _) in &restarted {
        state.relocate(*vm, NOWHERE);
    }
    let mut lost = Vec::new();
    for (vm, _) in restarted.iter().filter(|(vm, _)| protected(vm)) {
        if !take_best(state, *vm, dead) {
            lost.push(*vm);
        }
    }
    for (vm, host) in restarted {
        state.relocate(vm, host);
    }
    lost
}
