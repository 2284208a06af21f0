//! From an assignment to moves in their order.

use std::collections::{BTreeMap, BTreeSet};

use types::{Code, Fleet, PlannedMove, Problem};

use super::compile::{Compiled, link, rank};
use super::duration::rates;
use crate::order::{self, Effort, Impossible, Link};
use crate::reassign::{HostIndex, Model, NOWHERE};

/// Schedules that are looked at, by the number of moves.
const SCHEDULES: u64 = 200_000;

/// The moves, ordered so that no host is overfull at any moment.
pub(super) fn moves(
    fleet: &Fleet,
    compiled: &Compiled,
    place: &[HostIndex],
) -> Result<Vec<PlannedMove>, Problem> {
    let model = &compiled.model;
    let started = place
        .iter()
        .enumerate()
        .filter(|(vm, host)| model.vms[*vm].origin == NOWHERE && **host != NOWHERE);
    let mut planned: Vec<PlannedMove> = Vec::new();
    let changes: Vec<usize> = (0..place.len())
        .filter(|vm| ![NOWHERE, place[*vm]].contains(&model.vms[*vm].origin))
        .filter(|vm| place[*vm] != NOWHERE)
        .collect();
    if !changes.is_empty() {
        let problem = problem(fleet, compiled, place, &changes)?;
        let schedules = (SCHEDULES / (changes.len() * changes.len()) as u64).clamp(1, 2000);
        let effort = Effort { schedules, ..Effort::default() };
        let plan = order::plan(&problem, &effort)
            .map_err(|why| no_order(fleet, compiled, &changes, &why))?;
        planned.extend(plan.steps.iter().map(|step| PlannedMove {
            vm: fleet.vms[changes[step.of]].name.clone(),
            from: Some(fleet.hosts[step.from].name.clone()),
            to: fleet.hosts[step.to].name.clone(),
            wave: step.wave,
            after: step.after.clone(),
            start_seconds: step.start.as_secs_f64(),
            seconds: (step.end - step.start).as_secs_f64(),
            choices: 0,
            next_best: None,
            gain: None,
        }));
    }
    let end = planned.iter().map(|m| m.start_seconds + m.seconds).fold(0.0, f64::max);
    let wave = planned.iter().map(|m| m.wave + 1).max().unwrap_or(0);
    // Starts take room that moves may free: they come last.
    planned.extend(started.map(|(vm, host)| PlannedMove {
        vm: fleet.vms[vm].name.clone(),
        from: None,
        to: fleet.hosts[*host as usize].name.clone(),
        wave,
        after: Vec::new(),
        start_seconds: end,
        seconds: 0.0,
        choices: 0,
        next_best: None,
        gain: None,
    }));
    Ok(planned)
}

fn problem(
    fleet: &Fleet,
    compiled: &Compiled,
    place: &[HostIndex],
    changes: &[usize],
) -> Result<order::Problem, Problem> {
    let model = &compiled.model;
    let mut free: Vec<Vec<i64>> = model.hosts.iter().map(|h| h.capacity.clone()).collect();
    for vm in model.vms.iter().filter(|vm| vm.origin != NOWHERE) {
        let free = &mut free[vm.origin as usize];
        free.iter_mut().zip(&vm.demand).for_each(|(free, demand)| *free -= demand);
    }
    let rate = |h: usize| link(&fleet.hosts[h]);
    let moves = changes.iter().map(|&vm| {
        let (from, to) = (model.vms[vm].origin as usize, place[vm] as usize);
        order::Move {
            from,
            to,
            needs: model.vms[vm].demand.clone(),
            paces: rates(&fleet.vms[vm], rate(from).min(rate(to))),
            tier: rank(fleet, &fleet.vms[vm]) as u32,
            after: Vec::new(),
            via: Vec::new(),
        }
    });
    let mut moves: Vec<order::Move> = moves.collect();
    seats(model, place, changes, &mut free, &mut moves);
    in_turn(fleet, compiled, place, changes, &mut moves)?;
    let hosts = free.into_iter().enumerate().map(|(i, free)| order::Host {
        free,
        leave: i,
        arrive: i,
        site: 0,
        at_once: Some(fleet.policy.moves_per_host.max(1)),
    });
    Ok(order::Problem {
        hosts: hosts.collect(),
        links: (0..fleet.hosts.len()).map(|h| Link { rate: rate(h), at_once: None }).collect(),
        moves,
        ..order::Problem::default()
    })
}

/// Where a VM goes to a host that another one leaves from which a rule keeps it apart:
/// one seat a host for such a rule's VMs, as if it were a resource.
fn seats(
    model: &Model,
    place: &[HostIndex],
    changes: &[usize],
    free: &mut [Vec<i64>],
    moves: &mut [order::Move],
) {
    let members = |g: u32| model.vms.iter().filter(move |vm| vm.groups.contains(&g));
    let moving: BTreeSet<u32> =
        changes.iter().flat_map(|vm| model.vms[*vm].groups.iter().copied()).collect();
    for group in moving.into_iter().filter(|g| model.groups[*g as usize].rule.exclusive) {
        let goes = changes.iter().filter(|vm| model.vms[**vm].groups.contains(&group));
        let meets = goes.clone().any(|vm| members(group).any(|other| other.origin == place[*vm]));
        if !meets {
            continue;
        }
        free.iter_mut().for_each(|free| free.push(1));
        for vm in members(group).filter(|vm| vm.origin != NOWHERE) {
            if let Some(seat) = free[vm.origin as usize].last_mut() {
                *seat -= 1;
            }
        }
        for (vm, one) in changes.iter().zip(&mut *moves) {
            one.needs.push(i64::from(model.vms[*vm].groups.contains(&group)));
        }
    }
}

/// Lets the VMs of a rule that asks for domains move one after the other, so that it
/// holds after each.
fn in_turn(
    fleet: &Fleet,
    compiled: &Compiled,
    place: &[HostIndex],
    changes: &[usize],
    moves: &mut [order::Move],
) -> Result<(), Problem> {
    let model = &compiled.model;
    let domain = |h: HostIndex| model.hosts[h as usize].domain;
    for (g, group) in model.groups.iter().enumerate().filter(|(_, g)| g.rule.spread > 1) {
        let member = |vm: usize| model.vms[vm].groups.contains(&(g as u32));
        let mut left: Vec<usize> = (0..changes.len()).filter(|i| member(changes[*i])).collect();
        let all = (0..place.len()).filter(|vm| member(*vm) && model.vms[*vm].origin != NOWHERE);
        let mut at: BTreeMap<usize, u32> =
            all.map(|vm| (vm, domain(model.vms[vm].origin))).collect();
        let wide = |at: &BTreeMap<usize, u32>| {
            at.values().collect::<BTreeSet<_>>().len() >= group.rule.spread as usize
        };
        if left.len() < 2 || !wide(&at) {
            continue;
        }
        let mut before = None;
        while !left.is_empty() {
            let next = left.iter().position(|i| {
                let mut then = at.clone();
                then.insert(changes[*i], domain(place[changes[*i]]));
                wide(&then)
            });
            let Some(next) = next.map(|n| left.remove(n)) else {
                let names: Vec<&str> =
                    left.iter().map(|i| fleet.vms[changes[*i]].name.as_str()).collect();
                let what = format!(
                    "the moves of {} have no order: rule {} would not hold on the way",
                    names.join(", "),
                    compiled.rules[g]
                );
                return Err(Problem::new(Code::NoHost, what).remedy("let it ask for fewer domains"));
            };
            at.insert(changes[next], domain(place[changes[next]]));
            moves[next].after.extend(before);
            before = Some(next);
        }
    }
    Ok(())
}

/// Why there is no order, by name.
fn no_order(fleet: &Fleet, compiled: &Compiled, changes: &[usize], why: &Impossible) -> Problem {
    let vm = |of: usize| &fleet.vms[changes[of]].name;
    let why = match why {
        Impossible::NoRoom(left) => {
            let each = left.iter().map(|short| {
                let host = &fleet.hosts[short.host].name;
                match compiled.resources.get(short.resource) {
                    Some(resource) => {
                        let missing = short.missing.unsigned_abs();
                        let missing = missing.saturating_mul(compiled.unit[short.resource]);
                        format!("{} needs {missing} more of {resource} on {host}", vm(short.of))
                    }
                    None => format!("{} is kept apart from a VM on {host}", vm(short.of)),
                }
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Impossible::Circle(moves) => {
            let names: Vec<&str> = moves.iter().map(|of| vm(*of).as_str()).collect();
            format!("{} wait for each other", names.join(", "))
        }
        other => other.to_string(),
    };
    let remedy = "free room on the hosts that it names, or allow more moves at once";
    Problem::new(Code::NoHost, format!("the moves have no order: {why}")).remedy(remedy)
}
