//! The challenge's problem in the planner's words.

use planner::reassign::{
    Balance, Distance, Group, GroupRule, Host, Model as Planned, Resource, Vm,
};

use super::model::Model;

/// The same problem.
pub(crate) fn convert(model: &Model, initial: &[u32]) -> Planned {
    let count = model.machines.len();
    let weights = model.weights;
    let resource =
        |r: &super::model::Resource| Resource { transient: r.transient, weight: r.weight };
    let hosts = model.machines.iter().map(|m| Host {
        capacity: m.capacity.clone(),
        safety: m.safety.clone(),
        domain: m.location,
        neighbourhood: m.neighbourhood,
        running_cost: 0,
    });
    let vms = model.processes.iter().zip(initial).map(|(p, &origin)| Vm {
        demand: p.requirement.clone(),
        groups: vec![p.service],
        origin,
        move_cost: p.move_cost.saturating_mul(weights.process_move),
        allowed: None,
        preferred: None,
        unplaced_cost: 0,
        stay_cost: 0,
    });
    let groups = model.services.iter().map(|s| Group {
        rule: GroupRule { exclusive: true, spread: s.spread, pull: 0, counts_moves: true },
        needs: s.needs.clone(),
    });
    let balances = model.balances.iter().map(|b| Balance {
        first: b.first,
        second: b.second,
        target: b.target,
        weight: b.weight,
    });
    Planned {
        resources: model.resources.iter().map(resource).collect(),
        hosts: hosts.collect(),
        vms: vms.collect(),
        groups: groups.collect(),
        host_sets: Vec::new(),
        balances: balances.collect(),
        distance: Distance::from_rows(count, &model.machine_move, weights.machine_move),
        group_move_weight: weights.service_move,
    }
}
