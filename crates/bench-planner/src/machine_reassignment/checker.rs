//! The challenge's rules, counted from the files alone: this module knows nothing
//! of the planner.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::model::Model;

/// The cost of an assignment.
///
/// # Errors
/// The first hard constraint that it breaks.
pub(crate) fn cost(model: &Model, initial: &[u32], assignment: &[u32]) -> Result<i64> {
    ensure!(assignment.len() == model.processes.len(), "not one machine for each process");
    conflicts(model, assignment)?;
    spread(model, assignment)?;
    dependencies(model, assignment)?;
    let usage = usage(model, assignment);
    capacity(model, initial, assignment, &usage)?;
    Ok(load(model, &usage) + balance(model, &usage) + moves(model, initial, assignment))
}

type Usage = Vec<Vec<i64>>;

fn usage(model: &Model, assignment: &[u32]) -> Usage {
    let mut usage = vec![vec![0; model.resources.len()]; model.machines.len()];
    for (process, &machine) in model.processes.iter().zip(assignment) {
        for (used, needs) in usage[machine as usize].iter_mut().zip(&process.requirement) {
            *used += needs;
        }
    }
    usage
}

fn capacity(model: &Model, initial: &[u32], assignment: &[u32], usage: &Usage) -> Result<()> {
    let mut peak = usage.clone();
    for ((process, &from), to) in model.processes.iter().zip(initial).zip(assignment) {
        if from == *to {
            continue;
        }
        for (r, resource) in model.resources.iter().enumerate() {
            if resource.transient {
                peak[from as usize][r] += process.requirement[r];
            }
        }
    }
    for (m, machine) in model.machines.iter().enumerate() {
        for (r, capacity) in machine.capacity.iter().enumerate() {
            ensure!(
                peak[m][r] <= *capacity,
                "machine {m} holds {} of resource {r} and has {capacity}",
                peak[m][r]
            );
        }
    }
    Ok(())
}

fn conflicts(model: &Model, assignment: &[u32]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (process, machine) in model.processes.iter().zip(assignment) {
        ensure!(
            seen.insert((process.service, *machine)),
            "machine {machine} has two processes of service {}",
            process.service
        );
    }
    Ok(())
}

fn spread(model: &Model, assignment: &[u32]) -> Result<()> {
    let mut locations: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (process, &machine) in model.processes.iter().zip(assignment) {
        let location = model.machines[machine as usize].location;
        locations.entry(process.service).or_default().insert(location);
    }
    for (service, locations) in &locations {
        let wanted = model.services[*service as usize].spread as usize;
        ensure!(
            locations.len() >= wanted,
            "service {service} is in {} locations, not in {wanted}",
            locations.len()
        );
    }
    Ok(())
}

fn dependencies(model: &Model, assignment: &[u32]) -> Result<()> {
    let near = |machine: u32| model.machines[machine as usize].neighbourhood;
    let present: BTreeSet<(u32, u32)> = model
        .processes
        .iter()
        .zip(assignment)
        .map(|(process, &machine)| (process.service, near(machine)))
        .collect();
    for (service, neighbourhood) in &present {
        for needed in &model.services[*service as usize].needs {
            ensure!(
                present.contains(&(*needed, *neighbourhood)),
                "service {service} needs {needed} in neighbourhood {neighbourhood}"
            );
        }
    }
    Ok(())
}

fn load(model: &Model, usage: &Usage) -> i64 {
    let mut sum = 0;
    for (machine, used) in model.machines.iter().zip(usage) {
        for (r, resource) in model.resources.iter().enumerate() {
            sum += resource.weight * (used[r] - machine.safety[r]).max(0);
        }
    }
    sum
}

fn balance(model: &Model, usage: &Usage) -> i64 {
    let mut sum = 0;
    for (machine, used) in model.machines.iter().zip(usage) {
        let free = |r: usize| machine.capacity[r] - used[r];
        for b in &model.balances {
            sum += b.weight * (b.target * free(b.first) - free(b.second)).max(0);
        }
    }
    sum
}

fn moves(model: &Model, initial: &[u32], assignment: &[u32]) -> i64 {
    let mut of_service = vec![0i64; model.services.len()];
    let (mut process_moves, mut machine_moves) = (0, 0);
    for ((process, &from), &to) in model.processes.iter().zip(initial).zip(assignment) {
        if from != to {
            of_service[process.service as usize] += 1;
            process_moves += process.move_cost;
        }
        let row = from as usize * model.machines.len();
        machine_moves += i64::from(model.machine_move[row + to as usize]);
    }
    let service_moves = of_service.into_iter().max().unwrap_or(0);
    let w = model.weights;
    w.process_move * process_moves + w.service_move * service_moves + w.machine_move * machine_moves
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::SMALL;
    use super::*;

    #[test]
    fn the_small_example_counts_as_by_hand() {
        let model = Model::read(SMALL.as_bytes()).unwrap();
        // Machine 0 uses 18/30 and 210/400 (safety 16, 80), machine 1 10/10 and
        // 20/240 (8, 160): load 100·2 + 10·130 + 100·2; balance 10·(20·12 − 190) and
        // 10·max(0, 20·0 − 220).
        assert_eq!(cost(&model, &[0, 1, 0], &[0, 1, 0]).unwrap(), 200 + 1300 + 200 + 500);
    }

    #[test]
    fn each_rule_is_enforced() {
        let model = Model::read(SMALL.as_bytes()).unwrap();
        let cases: [(&[u32], &str); 3] = [
            (&[0, 0, 0], "two processes"),
            (&[1, 0, 0], "holds 22 of resource 0"),
            (&[0, 1], "one machine"),
        ];
        for (assignment, word) in cases {
            let told = cost(&model, &[0, 1, 0], assignment).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        }
        // Spread and dependency, which the small example leaves to its other rules.
        let alone =
            Model::read(b"1 0 1 2 0 0 9 9 0 0 1 0 9 9 0 0 2 1 1 1 1 0 2 0 1 0 1 1 0 0 1 1 1")
                .unwrap();
        let told = cost(&alone, &[0, 0], &[0, 1]).unwrap_err().to_string();
        assert!(told.contains("service 0 needs 1 in neighbourhood 0"), "{told}");
        let spread =
            Model::read(b"1 0 1 2 0 0 9 9 0 0 0 0 9 9 0 0 1 2 0 2 0 1 0 0 1 0 0 1 1 1").unwrap();
        let told = cost(&spread, &[0, 1], &[0, 1]).unwrap_err().to_string();
        assert!(told.contains("in 1 locations, not in 2"), "{told}");
    }

    #[test]
    fn transient_use_counts_on_both_machines() {
        let model = |transient| {
            let text = format!(
                "1 {transient} 1 2 0 0 9 9 0 0 0 0 9 9 0 0 2 0 0 0 0 2 0 5 0 1 5 0 0 1 1 1"
            );
            Model::read(text.as_bytes()).unwrap()
        };
        assert!(cost(&model(0), &[0, 1], &[1, 0]).is_ok());
        let told = cost(&model(1), &[0, 1], &[1, 0]).unwrap_err().to_string();
        assert!(told.contains("machine 0 holds 10"), "{told}");
    }
}
