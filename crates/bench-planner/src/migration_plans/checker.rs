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
