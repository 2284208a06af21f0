//! A day, step by step. What the policy decides for a step rests on the steps
//! before it: it never sees the load that it is judged by.

use anyhow::{Context, Result, ensure};
use planner::consolidate::{Host, Load, Policy, Vm, consolidate};
use serde::Serialize;

use super::datacenter::{HOST_MEMORY, HOSTS, STEP, Trace, capacity, full_cost, power};

/// How far the first forecast may be off, as a share of a VM's size.
const FIRST_DEVIATION: f64 = 0.05;

/// What came of a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) energy_kwh: f64,
    pub(crate) migrations: usize,
    /// Share of active host time with less CPU given than asked.
    pub(crate) slatah: f64,
    /// Share of CPU lost to migrations.
    pub(crate) pdm: f64,
    pub(crate) slav: f64,
    pub(crate) esv: f64,
    /// Share of CPU that was asked for and not given, because hosts were overloaded.
    pub(crate) unserved: f64,
    pub(crate) mean_hosts_on: f64,
}

/// Runs a day.
///
/// # Errors
/// The VMs do not fit at the start, or the policy breaks a rule.
pub(crate) fn simulate(trace: &Trace, memory_enforced: bool) -> Result<Outcome> {
    let mut at = start(trace, memory_enforced)?;
    let mut loads = vec![Load::default(); trace.vms.len()];
    let mut rounds_on = vec![u32::MAX; HOSTS];
    let mut sum = Sum::default();
    for step in 0..trace.steps {
        let before = at.clone();
        if let Some(last) = step.checked_sub(1) {
            observe(trace, last, &mut loads);
            decide(trace, &loads, &rounds_on, memory_enforced, &mut at)?;
        }
        sum.step(trace, step, &before, &at);
        for (host, rounds) in rounds_on.iter_mut().enumerate() {
            *rounds = if at.contains(&host) { rounds.saturating_add(1) } else { 0 };
        }
    }
    Ok(sum.outcome(trace))
}

/// What a host costs: nearly idle where memory keeps VMs apart, else full.
fn cost(host: usize, memory_enforced: bool) -> f64 {
    if memory_enforced { power(host, 0.0) } else { full_cost(host) }
}

/// The first placement: by memory, which is enforced then; the largest first, on
/// the thriftiest hosts first.
fn start(trace: &Trace, memory_enforced: bool) -> Result<Vec<usize>> {
    let mut hosts: Vec<usize> = (0..HOSTS).collect();
    let cost = |host: &usize| cost(*host, memory_enforced);
    hosts.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.cmp(b)));
    let mut vms: Vec<usize> = (0..trace.vms.len()).collect();
    vms.sort_by_key(|v| (-trace.vms[*v].memory, *v));
    let mut free = vec![HOST_MEMORY; HOSTS];
    let mut at = vec![0; trace.vms.len()];
    for vm in vms {
        let memory = trace.vms[vm].memory;
        let host = hosts.iter().copied().find(|h| free[*h] >= memory);
        at[vm] = host.context("the VMs' memory does not fit on the hosts")?;
        free[at[vm]] -= memory;
    }
    Ok(at)
}

fn observe(trace: &Trace, step: usize, loads: &mut [Load]) {
    for (vm, load) in trace.vms.iter().zip(loads) {
        let value = vm.demand[step];
        match step {
            0 => *load = Load::new(value, FIRST_DEVIATION * vm.size),
            _ => load.observe(value),
        }
    }
}

/// Asks the planner and carries out what it says.
fn decide(
    trace: &Trace,
    loads: &[Load],
    rounds_on: &[u32],
    memory_enforced: bool,
    at: &mut [usize],
) -> Result<()> {
    let needs = |memory: i64| if memory_enforced { vec![memory] } else { Vec::new() };
    let mut free = vec![HOST_MEMORY; HOSTS];
    trace.vms.iter().zip(&*at).for_each(|(vm, host)| free[*host] -= vm.memory);
    let hosts: Vec<Host> = (0..HOSTS)
        .map(|host| Host {
            capacity: capacity(host),
            free: needs(free[host]),
            cost: cost(host, memory_enforced),
            rounds_on: rounds_on[host],
            open: true,
        })
        .collect();
    let vms: Vec<Vm> = trace
        .vms
        .iter()
        .zip(&*at)
        .zip(loads)
        .map(|((vm, host), load)| Vm {
            host: *host,
            load: *load,
            needs: needs(vm.memory),
            weight: vm.memory as f64,
            movable: true,
        })
        .collect();
    for m in consolidate(&hosts, &vms, &Policy::default()) {
        ensure!(at[m.vm] == m.from && m.to < HOSTS, "VM {} is not on host {}", m.vm, m.from);
        at[m.vm] = m.to;
        free[m.from] += trace.vms[m.vm].memory;
        free[m.to] -= trace.vms[m.vm].memory;
    }
    ensure!(!memory_enforced || free.iter().all(|f| *f >= 0), "a host's memory is overfull");
    Ok(())
}

/// What adds up over a day.
#[derive(Debug, Default)]
struct Sum {
    joule: f64,
    migrations: usize,
    on: f64,
    overloaded: f64,
    unserved: f64,
    asked: f64,
    lost: f64,
}

impl Sum {
    fn step(&mut self, trace: &Trace, step: usize, before: &[usize], at: &[usize]) {
        let mut load = vec![0.0; HOSTS];
        let mut on = vec![false; HOSTS];
        for (vm, own) in trace.vms.iter().enumerate() {
            let demand = own.demand[step];
            load[at[vm]] += demand;
            on[at[vm]] = true;
            self.asked += demand;
            if before[vm] != at[vm] {
                self.migrations += 1;
                self.lost += demand * own.migration_loss();
            }
        }
        for host in (0..HOSTS).filter(|h| on[*h]) {
            self.joule += power(host, load[host]) * STEP;
            self.on += 1.0;
            self.unserved += (load[host] - capacity(host)).max(0.0);
            self.overloaded += f64::from(u8::from(load[host] > capacity(host)));
        }
    }

    fn outcome(&self, trace: &Trace) -> Outcome {
        let (slatah, pdm) = (self.overloaded / self.on, self.lost / self.asked.max(1.0));
        let energy_kwh = self.joule / 3.6e6;
        Outcome {
            energy_kwh,
            migrations: self.migrations,
            slatah,
            pdm,
            slav: slatah * pdm,
            unserved: self.unserved / self.asked.max(1.0),
            esv: energy_kwh * slatah * pdm,
            mean_hosts_on: self.on / trace.steps as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Forty VMs; the first eight are busy every other hour.
    fn day() -> Trace {
        let mut text = String::new();
        for vm in 0..40 {
            let value = |step: usize| if vm < 8 && step / 12 % 2 == 1 { 90 } else { 10 };
            let values: Vec<String> = (0..288).map(|step| value(step).to_string()).collect();
            writeln!(text, "vm{vm}\t{}", values.join(" ")).unwrap();
        }
        Trace::read(&text).unwrap()
    }

    #[test]
    fn a_day_is_carried_by_few_hosts_with_few_migrations() {
        let trace = day();
        let o = simulate(&trace, false).unwrap();
        assert_eq!(o, simulate(&trace, false).unwrap());
        assert!(o.energy_kwh >= trace.lower_bound_kwh());
        assert!(o.mean_hosts_on < 8.0, "{o:?}");
        assert!((20..400).contains(&o.migrations), "{o:?}");
        assert!((o.esv - o.energy_kwh * o.slatah * o.pdm).abs() < 1e-12);
        // Memory alone needs 13 hosts.
        let enforced = simulate(&trace, true).unwrap();
        assert!(
            enforced.mean_hosts_on >= 12.0 && enforced.energy_kwh > o.energy_kwh,
            "{enforced:?}"
        );
    }

    #[test]
    fn the_first_placement_keeps_memory() {
        let trace = day();
        let at = start(&trace, false).unwrap();
        for host in 0..HOSTS {
            let on = trace.vms.iter().zip(&at).filter(|(_, h)| **h == host);
            assert!(on.map(|(vm, _)| vm.memory).sum::<i64>() <= HOST_MEMORY);
        }
    }
}
