//! From an assignment to moves in their order.

use std::time::Duration;

use types::{Code, Fleet, FleetVm, PlannedMove, Problem, Rate};

use super::compile::{milliseconds, rank};
use crate::order::{self, Effort, Link, Pace};
use crate::reassign::{HostIndex, Model, NOWHERE};

/// Schedules that are looked at, by the number of moves.
const SCHEDULES: u64 = 200_000;

/// The moves, ordered so that no host is overfull at any moment.
pub(super) fn moves(
    fleet: &Fleet,
    model: &Model,
    place: &[HostIndex],
) -> Result<Vec<PlannedMove>, Problem> {
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
        let problem = problem(fleet, model, place, &changes);
        let schedules = (SCHEDULES / (changes.len() * changes.len()) as u64).clamp(1, 2000);
        let effort = Effort { schedules, ..Effort::default() };
        let plan = order::plan(&problem, &effort).map_err(|why| {
            let remedy = "free room on the hosts that it names, or allow more moves at once";
            Problem::new(Code::NoHost, format!("the moves have no order: {why}")).remedy(remedy)
        })?;
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

fn problem(fleet: &Fleet, model: &Model, place: &[HostIndex], changes: &[usize]) -> order::Problem {
    let mut free: Vec<Vec<i64>> = model.hosts.iter().map(|h| h.capacity.clone()).collect();
    for vm in model.vms.iter().filter(|vm| vm.origin != NOWHERE) {
        let free = &mut free[vm.origin as usize];
        free.iter_mut().zip(&vm.demand).for_each(|(free, demand)| *free -= demand);
    }
    let default = Rate(1_000_000_000);
    let rate = |h: usize| fleet.hosts[h].link.filter(|r| r.0 > 0).unwrap_or(default);
    let hosts = free.into_iter().enumerate().map(|(i, free)| order::Host {
        free,
        leave: i,
        arrive: i,
        site: 0,
        at_once: Some(fleet.policy.moves_per_host.max(1)),
    });
    let moves = changes.iter().map(|&vm| {
        let (from, to) = (model.vms[vm].origin as usize, place[vm] as usize);
        let slower = rate(from).min(rate(to));
        let paces = [1, 2, 4].map(|share| pace(&fleet.vms[vm], Rate((slower.0 / share).max(1))));
        order::Move {
            from,
            to,
            needs: model.vms[vm].demand.clone(),
            paces: paces.to_vec(),
            tier: rank(fleet, &fleet.vms[vm]) as u32,
            after: Vec::new(),
            via: Vec::new(),
        }
    });
    order::Problem {
        hosts: hosts.collect(),
        links: (0..fleet.hosts.len()).map(|h| Link { rate: rate(h), at_once: None }).collect(),
        moves: moves.collect(),
        ..order::Problem::default()
    }
}

fn pace(vm: &FleetVm, rate: Rate) -> Pace {
    Pace { rate, time: Duration::from_millis(milliseconds(vm, rate.bytes_per_second())) }
}
