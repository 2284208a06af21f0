//! Decisions about a fleet: one formulation (machine reassignment) for placing new
//! VMs, emptying hosts, balancing and bringing VMs home; then the order of the moves;
//! and for everything the reasons.

mod admission;
mod compile;
mod conflict;
mod duration;
mod load;
mod order;
mod place;
mod why;

#[cfg(test)]
mod tests;

use types::{Code, Fleet, FleetPlan, HostId, PlannedMove, Problem};

use crate::reassign::{
    Broken, Core, Crew, HostIndex, Model, NOWHERE, Options, Solution, State, VmIndex, broken, cost,
    solve,
};
use compile::{Compiled, HOST};
pub use place::Placer;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Only what must move: VMs that run nowhere get a place, and so do those that
    /// may not be where they are.
    Settle,
    /// These hosts empty.
    Drain(Vec<HostId>),
    /// Load spread evenly, as far as moves are worth it.
    Balance,
    /// VMs back home.
    Restore,
}

/// Plans.
///
/// Memory is first held on both hosts until all moves have ended, so that moves need
/// no order; where VMs find no place that way, room that others free is used too, and
/// the order sees to it.
///
/// # Errors
/// The fleet is contradictory, the model is too large, or no order of the moves
/// exists.
pub fn plan(
    fleet: &Fleet,
    goal: &Goal,
    options: &Options,
    crew: &dyn Crew,
) -> Result<FleetPlan, Problem> {
    let fleet = &by_name(fleet);
    let (compiled, solution) = solved(fleet, goal, options, crew, true)?;
    if homeless(&compiled.model, &solution.place).next().is_some() {
        let (freeing, better) = solved(fleet, goal, options, crew, false)?;
        let left = |c: &Compiled, s: &Solution| homeless(&c.model, &s.place).count();
        if left(&freeing, &better) < left(&compiled, &solution)
            && let Ok(told) = told(fleet, &freeing, better.place)
        {
            return Ok(told);
        }
    }
    told(fleet, &compiled, solution.place)
}

/// The fleet in an order of its own: whatever order it was written in, the plan is
/// the same.
fn by_name(fleet: &Fleet) -> Fleet {
    let mut fleet = fleet.clone();
    fleet.hosts.sort_by(|a, b| a.name.cmp(&b.name));
    fleet.vms.sort_by(|a, b| a.name.cmp(&b.name));
    fleet.rules.sort_by(|a, b| a.name.cmp(&b.name));
    fleet
}

fn solved(
    fleet: &Fleet,
    goal: &Goal,
    options: &Options,
    crew: &dyn Crew,
    transient: bool,
) -> Result<(Compiled, Solution), Problem> {
    let compiled = compile::compile(fleet, goal, transient)?;
    let core = Core::new(&compiled.model)
        .map_err(|e| Problem::new(Code::InvalidRequest, format!("the fleet is too much: {e}")))?;
    // Where only what must move is to move, the first answer is the answer.
    let few = matches!(goal, Goal::Settle | Goal::Drain(_)) && compiled.together.is_empty();
    let options = Options { moves: if few { 0 } else { options.moves }, ..*options };
    let solution = solve(&core, &options, crew, &|| false);
    Ok((compiled, solution))
}

/// VMs that run nowhere or where they may not.
fn homeless<'a>(model: &'a Model, place: &'a [HostIndex]) -> impl Iterator<Item = VmIndex> + 'a {
    let all = place.iter().enumerate().map(|(vm, host)| (vm as VmIndex, *host));
    all.filter(|(vm, host)| *host == NOWHERE || !model.allows(*vm, *host)).map(|(vm, _)| vm)
}

/// The plan in words: who is let in, moves in their order, and reasons.
fn told(
    fleet: &Fleet,
    compiled: &Compiled,
    mut place: Vec<HostIndex>,
) -> Result<FleetPlan, Problem> {
    let model = &compiled.model;
    let failures = fleet.policy.survive_host_failures;
    let (fewer, mut with_fewer) = (failures.saturating_sub(1), place.clone());
    let refused = admission::admit(fleet, model, &mut place, failures);
    let refused_then = match refused[..] {
        [] => Vec::new(),
        _ => admission::admit(fleet, model, &mut with_fewer, fewer),
    };
    let place = &place[..];
    let core = Core::new(model)
        .map_err(|e| Problem::new(Code::Internal, format!("a model that was solved: {e}")))?;
    let state = State::new(&core, place);
    let mut plan =
        FleetPlan { moves: order::moves(fleet, compiled, place)?, ..FleetPlan::default() };
    for planned in &mut plan.moves {
        reasons(fleet, compiled, &state, planned);
    }
    let ends = plan.moves.iter().map(|m| m.start_seconds + m.seconds);
    plan.makespan_seconds = ends.fold(0.0, f64::max);
    let blocked = homeless(model, place).map(|vm| {
        let survivable = if refused_then.contains(&vm) { 0 } else { fewer };
        let reserved = refused.contains(&vm).then_some(survivable);
        why::blocked(fleet, compiled, &state, vm, reserved)
    });
    plan.blocked = blocked.collect();
    plan.unfulfilled = compiled
        .together
        .iter()
        .filter(|g| why::apart(model, place, **g))
        .map(|g| compiled.rules[*g as usize].clone())
        .collect();
    plan.unfulfilled.extend(rules_broken(compiled, place));
    plan.cost_before = points(running_cost(model, &model.origins()));
    plan.cost_after = points(running_cost(model, place));
    plan.admission = admission::survives(fleet, model, place, failures);
    Ok(plan)
}

/// Rules that were broken before and still are.
fn rules_broken(compiled: &Compiled, place: &[HostIndex]) -> Vec<String> {
    let groups = broken(&compiled.model, place).into_iter().filter_map(|b| match b {
        Broken::Exclusive { group, .. } | Broken::Spread { group, .. } => Some(group),
        _ => None,
    });
    let mut names: Vec<String> = groups.map(|g| compiled.rules[g as usize].clone()).collect();
    names.dedup();
    names
}

/// What an assignment costs for as long as it lasts: loads and neighbours.
fn running_cost(model: &Model, place: &[HostIndex]) -> i64 {
    let moves: i64 = (0..place.len()).map(|vm| place_cost(model, vm, place[vm])).sum();
    cost(model, place) - moves
}

fn place_cost(model: &Model, vm: usize, host: HostIndex) -> i64 {
    let known = &model.vms[vm];
    let moved = match (host, known.origin) {
        (NOWHERE, _) => return known.unplaced_cost,
        (_, NOWHERE) => 0,
        (host, origin) if host != origin => known.move_cost,
        _ if model.allows(vm as VmIndex, host) => 0,
        _ => known.stay_cost,
    };
    let away = known.preferred.filter(|(s, _)| !model.host_sets[*s as usize].contains(host));
    moved + away.map_or(0, |(_, cost)| cost)
}

/// A cost in thousandths of a host.
fn points(cost: i64) -> f64 {
    (cost as f64 / (HOST / 1000) as f64 * 1000.0).round() / 1000.0
}

/// Fills in why the VM goes there and not elsewhere.
fn reasons(fleet: &Fleet, compiled: &Compiled, state: &State<'_>, planned: &mut PlannedMove) {
    let Some(vm) = fleet.vms.iter().position(|v| v.name == planned.vm) else { return };
    let vm = vm as VmIndex;
    let hosts = 0..fleet.hosts.len() as HostIndex;
    let origin = compiled.model.vms[vm as usize].origin;
    let others: Vec<(i64, HostIndex)> = hosts
        .filter(|h| *h != origin)
        .filter_map(|h| state.shift(vm, h).map(|delta| (delta, h)))
        .collect();
    planned.choices = others.len() + 1;
    planned.next_best = others
        .iter()
        .min()
        .map(|(delta, host)| (fleet.hosts[*host as usize].name.clone(), points(*delta)));
    if origin != NOWHERE && compiled.model.allows(vm, origin) {
        let back = state.delta(vm, origin) + compiled.model.vms[vm as usize].move_cost;
        planned.gain = Some(points(back));
    }
}
