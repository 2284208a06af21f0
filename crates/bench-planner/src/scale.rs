//! Scale: a large generated fleet, a drain of many hosts planned and ordered, and one
//! VM placed.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use planner::fleet::{Goal, Placer, plan};
use planner::reassign::{Alone, Options};
use serde::Serialize;
use types::{Fleet, FleetHost, FleetPlan, FleetVm, HostId, Policy, Rule, RuleKind};

use crate::Args;

/// The section's name.
pub(crate) const NAME: &str = "scale";

const HOSTS: u64 = 1000;
const VMS: u64 = 20_000;
const DRAINED: u64 = 20;
const GIB: u64 = 1 << 30;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    hosts: u64,
    vms: u64,
    drained_hosts: u64,
    moves: usize,
    /// Planned, ordered and explained.
    drain_seconds: f64,
    /// Median of placing one VM.
    place_seconds: f64,
    /// The most memory that the process has had.
    peak_memory_bytes: u64,
    /// What an independent look at the plan found wrong.
    invalid: Vec<String>,
}

/// Measures, if it is asked for.
///
/// # Errors
/// The planner refuses, or the memory cannot be read.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    if !args.section(NAME, std::iter::empty()) {
        return Ok(None);
    }
    // In a process where other sections have run, only the growth would be known.
    let fleet = fleet()?;
    let options = Options { seed: 1, moves: 0, workers: 1 };
    let drained: Vec<HostId> =
        (0..DRAINED).map(|h| fleet.hosts[(h * 37) as usize].name.clone()).collect();
    let begun = Instant::now();
    let drain = plan(&fleet, &Goal::Drain(drained.clone()), &options, &Alone)?;
    let drain_seconds = begun.elapsed().as_secs_f64();
    ensure!(drain.blocked.is_empty(), "{} VMs find no place", drain.blocked.len());
    let invalid = check(&fleet, &drained, &drain);
    let placer = Placer::new(&fleet)?;
    let mut times: Vec<f64> = Vec::new();
    for i in 0..101 {
        let new = vm(VMS + i, None)?;
        let begun = Instant::now();
        placer.place(&new, &["apart-1"]).context("a VM finds no place")?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let section = Section {
        hosts: HOSTS,
        vms: VMS,
        drained_hosts: DRAINED,
        moves: drain.moves.len(),
        drain_seconds,
        place_seconds: times[times.len() / 2],
        peak_memory_bytes: peak_memory()?,
        invalid,
    };
    eprintln!(
        "scale: {} moves in {drain_seconds:.3} s, a place in {:.2} ms, {} MiB, {}",
        section.moves,
        section.place_seconds * 1e3,
        section.peak_memory_bytes >> 20,
        if section.invalid.is_empty() { "valid" } else { "INVALID" }
    );
    Ok(Some(section))
}

/// Hosts of three sizes in 40 racks, about two thirds full; some VMs kept apart.
fn fleet() -> Result<Fleet> {
    let hosts = (0..HOSTS).map(|h| {
        let cores = [32, 48, 64][(h % 3) as usize];
        Ok(FleetHost {
            name: format!("host-{h}").parse()?,
            site: None,
            domain: Some(format!("rack-{}", h / 25)),
            capacity: [("memory".to_owned(), cores * 4 * GIB), ("cpu".to_owned(), cores * 1000)]
                .into(),
            cordoned: false,
            cpu_features: vec!["avx2".to_owned()],
            link: Some("10gbit".parse()?),
        })
    });
    let hosts: Vec<FleetHost> = hosts.collect::<Result<_>>()?;
    let vms = (0..VMS).map(|i| vm(i, Some(hosts[(i % HOSTS) as usize].name.clone())));
    let vms: Vec<FleetVm> = vms.collect::<Result<_>>()?;
    let rules = (0..VMS / 20).map(|r| Rule {
        name: format!("apart-{r}"),
        kind: RuleKind::Apart,
        vms: (0..4).map(|i| vms[(r * 20 + i * 3) as usize].name.clone()).collect(),
    });
    Ok(Fleet { rules: rules.collect(), hosts, vms, policy: Policy::default() })
}

fn vm(i: u64, host: Option<HostId>) -> Result<FleetVm> {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let memory = [2, 4, 4, 8, 8][(mixed % 5) as usize] * GIB;
    Ok(FleetVm {
        name: format!("vm-{i}").parse()?,
        host,
        home: None,
        tier: ["critical", "secondary", "noncritical"][(mixed / 5 % 3) as usize].parse()?,
        demand: [("memory".to_owned(), memory), ("cpu".to_owned(), 200 + mixed % 1200)].into(),
        reserved: BTreeMap::new(),
        history: BTreeMap::new(),
        cpu_features: vec!["avx2".to_owned()],
        pinned: Vec::new(),
        barred: BTreeMap::new(),
        dirty_rate: None,
    })
}

/// Counts anew, move by move in the order of the waves, what every host holds.
fn check(fleet: &Fleet, drained: &[HostId], plan: &FleetPlan) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used: BTreeMap<(&HostId, &str), i128> = BTreeMap::new();
    let vms: BTreeMap<_, _> = fleet.vms.iter().map(|vm| (&vm.name, vm)).collect();
    let capacity: BTreeMap<_, _> = fleet.hosts.iter().map(|h| (&h.name, &h.capacity)).collect();
    let mut place: BTreeMap<_, &HostId> = BTreeMap::new();
    for vm in &fleet.vms {
        let Some(host) = &vm.host else { continue };
        place.insert(&vm.name, host);
        for (name, amount) in &vm.demand {
            *used.entry((host, name)).or_default() += i128::from(*amount);
        }
    }
    let mut waves: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    plan.moves.iter().for_each(|m| waves.entry(m.wave).or_default().push(m));
    for moves in waves.values() {
        // Within a wave everything may run at once: all arrive, then all leave.
        for planned in moves {
            for (name, amount) in &vms[&planned.vm].demand {
                let sum = used.entry((&planned.to, name)).or_default();
                *sum += i128::from(*amount);
                let has = capacity[&planned.to].get(name).copied().unwrap_or(0);
                if *sum > i128::from(has) {
                    wrong.push(format!("{} is overfull of {name}", planned.to));
                }
            }
        }
        for planned in moves {
            if let Some(from) = place.insert(&planned.vm, &planned.to) {
                for (name, amount) in &vms[&planned.vm].demand {
                    *used.entry((from, name)).or_default() -= i128::from(*amount);
                }
            }
        }
    }
    for (vm, host) in &place {
        if drained.contains(host) {
            wrong.push(format!("{vm} is still on {host}"));
        }
    }
    for rule in &fleet.rules {
        let mut hosts: Vec<_> = rule.vms.iter().filter_map(|vm| place.get(vm)).collect();
        hosts.sort();
        if hosts.windows(2).any(|pair| pair[0] == pair[1]) {
            wrong.push(format!("rule {} is broken", rule.name));
        }
    }
    wrong
}

fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
