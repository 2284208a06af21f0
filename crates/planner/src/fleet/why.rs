//! Why not: what stands against a VM on a host, and what would have to change.

use types::{Blocked, Change, Fleet, Obstacle, Refusal};

use super::compile::Compiled;
use crate::reassign::{GroupIndex, HostIndex, Model, State, VmIndex};

/// Whether VMs of a group are on more than one host.
pub(super) fn apart(model: &Model, place: &[HostIndex], group: GroupIndex) -> bool {
    let members = model.vms.iter().zip(place).filter(|(vm, _)| vm.groups.contains(&group));
    let mut hosts = members.map(|(_, host)| *host);
    hosts.next().is_some_and(|first| hosts.any(|host| host != first))
}

/// Everything that stands against a VM on a host, as the fleet is planned.
pub(super) fn obstacles(
    fleet: &Fleet,
    compiled: &Compiled,
    state: &State<'_>,
    vm: VmIndex,
    index: HostIndex,
) -> Vec<Obstacle> {
    let (known, host) = (&fleet.vms[vm as usize], &fleet.hosts[index as usize]);
    let mut found = Vec::new();
    if compiled.leaving[index as usize] {
        found.push(Obstacle::Draining);
    }
    if host.cordoned && known.host.as_ref() != Some(&host.name) {
        found.push(Obstacle::Cordoned);
    }
    if !known.pinned.is_empty() && !known.pinned.contains(&host.name) {
        found.push(Obstacle::Pinned);
    }
    found.extend(known.barred.get(&host.name).map(|problem| Obstacle::Barred {
        code: problem.code.as_str().to_owned(),
        why: problem.detail.clone(),
        remedy: problem.remedy.clone(),
    }));
    let origin = known.host.as_ref().and_then(|h| compiled.host_of.get(h));
    let site = origin.and_then(|h| fleet.hosts[*h as usize].site.as_ref());
    if let (Some(site), Some(other)) = (site, &host.site)
        && site != other
    {
        found.push(Obstacle::OtherSite { site: other.clone() });
    }
    let missing = known.cpu_features.iter().filter(|f| !host.cpu_features.contains(f));
    let missing: Vec<String> = missing.cloned().collect();
    if !missing.is_empty() {
        found.push(Obstacle::CpuFeatures { missing });
    }
    for (r, missing) in state.missing(vm, index).into_iter().enumerate() {
        if missing > 0 {
            let missing = u64::try_from(missing).unwrap_or(0).saturating_mul(compiled.unit[r]);
            found.push(Obstacle::Room { resource: compiled.resources[r].clone(), missing });
        }
    }
    let exclusive = state.excluded_by(vm, index);
    found.extend(exclusive.map(|g| Obstacle::Apart { rule: compiled.rules[g as usize].clone() }));
    let spread = state.unspread_by(vm, index);
    found.extend(spread.map(|g| Obstacle::Spread { rule: compiled.rules[g as usize].clone() }));
    found
}

/// Why a VM finds no place, and the smallest set of changes that gives it one.
/// `reserved`: there is room, but it is kept for the failures that are to be survived;
/// if they were only so many, the VM would be let in.
pub(super) fn blocked(
    fleet: &Fleet,
    compiled: &Compiled,
    state: &State<'_>,
    vm: VmIndex,
    reserved: Option<u32>,
) -> Blocked {
    let failures = fleet.policy.survive_host_failures;
    let known = &fleet.vms[vm as usize];
    let hosts = 0..fleet.hosts.len() as HostIndex;
    let origin = compiled.model.vms[vm as usize].origin;
    let refusals: Vec<Refusal> = hosts
        .filter(|h| *h != origin)
        .map(|h| Refusal {
            host: fleet.hosts[h as usize].name.clone(),
            obstacles: match obstacles(fleet, compiled, state, vm, h) {
                none if none.is_empty() && reserved.is_some() => {
                    vec![Obstacle::Reserved { failures }]
                }
                some => some,
            },
        })
        .filter(|refusal| !refusal.obstacles.is_empty())
        .collect();
    let smallest = refusals
        .iter()
        .filter(|refusal| !refusal.obstacles.iter().any(unchangeable))
        .min_by_key(|refusal| (effort(fleet, refusal), refusal.host.clone()));
    let change = |refusal: &Refusal, obstacle: &Obstacle| match obstacle {
        Obstacle::Cordoned => Some(Change::Uncordon { host: refusal.host.clone() }),
        Obstacle::Pinned => {
            Some(Change::Pin { vm: known.name.clone(), host: refusal.host.clone() })
        }
        Obstacle::CpuFeatures { missing } => {
            Some(Change::DropFeatures { vm: known.name.clone(), features: missing.clone() })
        }
        Obstacle::Room { resource, missing } => Some(Change::Free {
            host: refusal.host.clone(),
            resource: resource.clone(),
            amount: *missing,
        }),
        Obstacle::Apart { rule } | Obstacle::Spread { rule } => {
            Some(Change::Except { vm: known.name.clone(), rule: rule.clone() })
        }
        Obstacle::Barred { remedy, .. } => {
            let (vm, host) = (known.name.clone(), refusal.host.clone());
            remedy.clone().map(|remedy| Change::Remedy { vm, host, remedy })
        }
        Obstacle::Reserved { .. } => reserved.map(|failures| Change::Survive { failures }),
        Obstacle::Draining | Obstacle::OtherSite { .. } => None,
    };
    Blocked {
        vm: known.name.clone(),
        unblock: smallest
            .map(|refusal| {
                let each = refusal.obstacles.iter();
                each.filter_map(|obstacle| change(refusal, obstacle)).collect()
            })
            .unwrap_or_default(),
        host: smallest.map(|refusal| refusal.host.clone()),
        refusals,
    }
}

fn unchangeable(obstacle: &Obstacle) -> bool {
    matches!(
        obstacle,
        Obstacle::Draining | Obstacle::OtherSite { .. } | Obstacle::Barred { remedy: None, .. }
    )
}

/// How much would have to change: what interrupts or loosens weighs more than one
/// command; room weighs by its share of the host.
fn effort(fleet: &Fleet, refusal: &Refusal) -> u64 {
    let host = fleet.hosts.iter().find(|h| h.name == refusal.host);
    let share = |resource: &String, missing: u64| {
        let capacity = host.and_then(|h| h.capacity.get(resource)).copied().unwrap_or(0);
        (u128::from(missing) * 1000 / u128::from(capacity.max(1))).min(1_000_000) as u64
    };
    let each = refusal.obstacles.iter().map(|obstacle| match obstacle {
        Obstacle::Cordoned => 50,
        Obstacle::Pinned => 200,
        Obstacle::Room { resource, missing } => 10 + share(resource, *missing),
        Obstacle::Apart { .. } | Obstacle::Spread { .. } => 500,
        Obstacle::CpuFeatures { .. } | Obstacle::Barred { .. } => 2000,
        Obstacle::Reserved { .. } => 5000,
        Obstacle::Draining | Obstacle::OtherSite { .. } => 1 << 40,
    });
    each.sum()
}
