//! Whether a schedule of migrations keeps the rules, by looking at every moment at
//! which something changes. Knows nothing of the planner.

use anyhow::{Result, ensure};

use super::instance::{Action, Instance};

/// Schedules count in microseconds.
const TOLERANCE: f64 = 2e-6;

/// The last end, in seconds.
pub(crate) fn makespan(actions: &[Action]) -> f64 {
    actions.iter().map(|a| a.end).fold(0.0, f64::max)
}

/// Every VM comes where the published schedule brings it; every migration has the
/// time that it takes at its rate; no link and no host is ever overfull, each VM
/// counting on both hosts while it moves.
///
/// # Errors
/// The first rule that is broken.
pub(crate) fn check(instance: &Instance, actions: &[Action]) -> Result<()> {
    arrive(instance, actions)?;
    for a in actions {
        let least = instance.vms[&a.vm].seconds(a.mbit);
        ensure!(a.start >= 0.0, "VM {} moves before the beginning", a.vm);
        ensure!(
            least.is_some_and(|least| a.end - a.start >= least - TOLERANCE),
            "VM {} moves in {} s at {} Mbit/s and needs {least:?} s",
            a.vm,
            a.end - a.start,
            a.mbit
        );
    }
    for moment in actions.iter().map(|a| a.start) {
        let now = moment + TOLERANCE;
        links(instance, actions, now)?;
        room(instance, actions, now)?;
    }
    Ok(())
}

fn arrive(instance: &Instance, actions: &[Action]) -> Result<()> {
    let mut by_start = actions.to_vec();
    by_start.sort_by(|a, b| a.start.total_cmp(&b.start));
    for goal in &instance.actions {
        let (mut at, mut free_from) = (goal.from, 0.0);
        for step in by_start.iter().filter(|a| a.vm == goal.vm) {
            ensure!(step.from == at, "VM {} moves from where it is not", goal.vm);
            ensure!(step.start >= free_from - TOLERANCE, "VM {} moves twice at once", goal.vm);
            (at, free_from) = (step.to, step.end);
        }
        ensure!(at == goal.to, "VM {} does not come where it should", goal.vm);
    }
    let wanted = |a: &&Action| instance.actions.iter().any(|g| g.vm == a.vm);
    ensure!(actions.iter().filter(wanted).count() == actions.len(), "a VM moves unasked");
    Ok(())
}

fn links(instance: &Instance, actions: &[Action], now: f64) -> Result<()> {
    let running = || actions.iter().filter(|a| a.start <= now && now < a.end);
    for (h, host) in instance.hosts.iter().enumerate() {
        let out: u64 = running().filter(|a| a.from == h).map(|a| a.mbit).sum();
        let into: u64 = running().filter(|a| a.to == h).map(|a| a.mbit).sum();
        ensure!(
            out.max(into) <= host.mbit,
            "at {now:.1} s host {h} sends {out} and receives {into} of {} Mbit/s",
            host.mbit
        );
    }
    Ok(())
}

fn room(instance: &Instance, actions: &[Action], now: f64) -> Result<()> {
    for (h, host) in instance.hosts.iter().enumerate() {
        for (r, free) in host.free.iter().enumerate() {
            let needs = |a: &Action| instance.vms[&a.vm].needs[r];
            let came: i64 = actions.iter().filter(|a| a.to == h && a.start <= now).map(needs).sum();
            let left: i64 = actions.iter().filter(|a| a.from == h && a.end <= now).map(needs).sum();
            let free = free + left - came;
            ensure!(free >= 0, "at {now:.1} s host {h} has {free} of resource {r}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two full hosts and a free one; VM 0 and VM 1 change places.
    fn instance() -> Instance {
        let vm =
            json!({ "memUsed": 3000, "dirtyRate": 2.0, "maxDirtySize": 96, "maxDirtyDuration": 2 });
        let action = |vm: u64, from: u64, to: u64, start: u64| {
            json!({ "id": "migrateVM", "vm": vm, "from": from, "to": to, "bw": 500,
                    "start": start, "end": start + 70 })
        };
        let file = json!({
            "origin": {
                "mapping": { "onlineNodes": {
                    "0": { "runningVMs": [0] }, "1": { "runningVMs": [1] }, "2": { "runningVMs": [] },
                } },
                "attributes": { "vms": { "0": vm, "1": vm } },
                "views": [{ "nodes": { "0": 3, "1": 3, "2": 3 }, "vms": { "0": 3, "1": 3 } }],
            },
            "actions": [action(0, 0, 1, 0), action(1, 1, 0, 70)],
        });
        Instance::read(file.to_string().as_bytes()).unwrap()
    }

    type Change = fn(&mut Vec<Action>);

    fn action(vm: u64, from: usize, to: usize, start: f64) -> Action {
        Action { vm, from, to, start, end: start + 69.0, mbit: 500 }
    }

    #[test]
    fn durations_are_the_published_ones() {
        let vm = &instance().vms[&0];
        assert!((vm.seconds(500).unwrap() - 68.712).abs() < 0.001);
        assert!((vm.seconds(1000).unwrap() - 28.995).abs() < 0.001);
        assert_eq!(vm.seconds(432), None, "a rate that the guest's writing outruns");
    }

    #[test]
    fn every_rule_is_looked_at() {
        let instance = instance();
        let good = [action(1, 1, 2, 0.0), action(0, 0, 1, 69.0), action(1, 2, 0, 138.0)];
        check(&instance, &good).unwrap();
        assert_eq!(makespan(&good), 207.0);
        let broken: [(&str, Change); 7] = [
            ("overfull", |a| a[1].start -= 1.0),
            ("needs", |a| a[0].end -= 1.0),
            ("receives", |a| a[2].mbit = 1000),
            ("should", |a| a.truncate(2)),
            ("where it is not", |a| a[2].from = 1),
            ("twice", |a| a[2].start = 60.0),
            ("unasked", |a| a.push(action(7, 0, 1, 300.0))),
        ];
        for (word, change) in broken {
            let mut actions = good.to_vec();
            change(&mut actions);
            let told = match word {
                "unasked" => arrive(&instance, &actions),
                _ => check(&instance, &actions),
            };
            let told = told.unwrap_err().to_string();
            let room = told.contains("resource");
            assert!(told.contains(word) || (word == "overfull" && room), "{word}: {told}");
        }
        let published = check(&instance, &instance.actions).unwrap_err().to_string();
        assert!(published.contains("host 1 has -3 of resource 0"), "{published}");
    }
}
