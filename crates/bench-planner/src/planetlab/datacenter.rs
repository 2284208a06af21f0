//! The published model: hosts, VM types, power.

use anyhow::{Context, Result, ensure};

/// Seconds of a step.
pub(crate) const STEP: f64 = 300.0;
/// Hosts; even ones are HP ProLiant ML110 G4, odd ones G5.
pub(crate) const HOSTS: usize = 800;
/// MB.
pub(crate) const HOST_MEMORY: i64 = 4096;
/// MIPS: two cores each.
const CAPACITY: [f64; 2] = [2.0 * 1860.0, 2.0 * 2660.0];
/// Watt at 0, 10, … 100 % load (SPECpower).
const POWER: [[f64; 11]; 2] = [
    [86.0, 89.4, 92.6, 96.0, 99.5, 102.0, 106.0, 108.0, 112.0, 114.0, 117.0],
    [93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0],
];
/// MIPS and MB of a VM, by the quarter of the file it stands in.
const TYPES: [(f64, i64); 4] = [(2500.0, 870), (2000.0, 1740), (1000.0, 1740), (500.0, 613)];
/// A migration's network: MB a second.
const NETWORK: f64 = 62.5;
/// Of the VM's CPU, lost while it migrates.
const LOST: f64 = 0.1;

/// A day.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) vms: Vec<Vm>,
    pub(crate) steps: usize,
}

#[derive(Debug)]
pub(crate) struct Vm {
    /// MIPS that are asked for, by step.
    pub(crate) demand: Vec<f64>,
    /// MB.
    pub(crate) memory: i64,
    /// MIPS.
    pub(crate) size: f64,
}

impl Vm {
    /// Share of a step's CPU that a migration costs.
    pub(crate) fn migration_loss(&self) -> f64 {
        LOST * (self.memory as f64 / NETWORK) / STEP
    }
}

/// MIPS of a host.
pub(crate) fn capacity(host: usize) -> f64 {
    CAPACITY[host % 2]
}

/// Watt for each MIPS of a full host.
pub(crate) fn full_cost(host: usize) -> f64 {
    POWER[host % 2][10] / CAPACITY[host % 2]
}

/// Watt of a host that is on, between the published loads in a straight line.
pub(crate) fn power(host: usize, load: f64) -> f64 {
    let tenths = (load / capacity(host)).clamp(0.0, 1.0) * 10.0;
    let below = (tenths as usize).min(9);
    let curve = &POWER[host % 2];
    curve[below] + (curve[below + 1] - curve[below]) * (tenths - below as f64)
}

impl Trace {
    /// Reads a day: a line a VM, its name, a tab, percentages.
    ///
    /// # Errors
    /// The text is not in the format.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let mut vms = Vec::with_capacity(lines.len());
        for (i, line) in lines.iter().enumerate() {
            let (_, values) =
                line.split_once('\t').with_context(|| format!("line {} has no tab", i + 1))?;
            let (size, memory) = TYPES[i * TYPES.len() / lines.len()];
            let demand: Result<Vec<f64>> = values
                .split(' ')
                .map(|v| {
                    let percent: f64 =
                        v.parse().with_context(|| format!("line {}: {v:?}", i + 1))?;
                    ensure!((0.0..=100.0).contains(&percent), "line {}: {v} %", i + 1);
                    Ok(percent / 100.0 * size)
                })
                .collect();
            vms.push(Vm { demand: demand?, memory, size });
        }
        let steps = vms.first().map_or(0, |vm| vm.demand.len());
        ensure!(steps > 0, "the day is empty");
        ensure!(vms.iter().all(|vm| vm.demand.len() == steps), "lines of different lengths");
        Ok(Self { vms, steps })
    }

    /// Energy that no placement can undercut, in kWh: a host needs least for a MIPS
    /// when it is full.
    pub(crate) fn lower_bound_kwh(&self) -> f64 {
        let demand: f64 = self.vms.iter().flat_map(|vm| &vm.demand).sum();
        let watt = (0..2)
            .flat_map(|kind| {
                (1..=10).map(move |tenth| {
                    let load = f64::from(tenth) / 10.0 * CAPACITY[kind];
                    POWER[kind][tenth as usize] / load
                })
            })
            .fold(f64::INFINITY, f64::min);
        demand * watt * STEP / 3.6e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_lies_on_the_published_curve() {
        assert_eq!((power(0, 0.0), power(0, 3720.0), power(1, 9999.0)), (86.0, 117.0, 135.0));
        assert!((power(1, 0.25 * 5320.0) - 103.0).abs() < 1e-9);
        assert!(full_cost(1) < full_cost(0));
    }

    #[test]
    fn a_day_is_read() {
        let day = Trace::read("a\t0 50\nb\t10 10\nc\t0 0\nd\t100 0\n").unwrap();
        assert_eq!((day.vms.len(), day.steps), (4, 2));
        assert_eq!(day.vms[0].demand, [0.0, 1250.0]);
        assert_eq!((day.vms[3].demand[0], day.vms[3].memory), (500.0, 613));
        // 200 + 500, then 1250 + 200 MIPS, at 135 W for 5320.
        let expected = 2150.0 * 135.0 / 5320.0 * 300.0 / 3.6e6;
        assert!((day.lower_bound_kwh() - expected).abs() < 1e-9);
        for text in ["", "a 1 2\n", "a\tx\n", "a\t101\n", "a\t1 2\nb\t1\n"] {
            assert!(Trace::read(text).is_err(), "{text:?}");
        }
    }
}
