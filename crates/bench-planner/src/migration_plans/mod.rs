//! Migration plans: relocations that mVM (UCC'15) has published with its own
//! schedules.

mod checker;
mod instance;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use planner::order::{Effort, Host, Link, Move, Pace, Plan, Problem, plan};
use serde::Serialize;
use types::Rate;

use crate::{Args, data};
use instance::{Action, Instance};

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "migration-plans";

/// Schedules looked at for each plan.
const SCHEDULES: u64 = 20_000;
/// Shares of the rate of its way at which a migration may run.
const SHARES: [(u64, u64); 4] = [(1, 1), (3, 4), (2, 3), (1, 2)];

#[derive(Debug, Serialize)]
pub(crate) struct Section {
    mean_makespan_seconds: f64,
    mean_published_seconds: f64,
    mean_bound_seconds: f64,
    /// Plans that last longer than the published schedule.
    worse_than_published: usize,
    /// Plans that the checker refuses.
    invalid: usize,
    seconds: f64,
    instances: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    makespan_seconds: f64,
    published_seconds: f64,
    bound_seconds: f64,
    schedules: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid: Option<String>,
}

/// Orders all plans that are asked for.
///
/// # Errors
/// A file is malformed, or a result cannot be written.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    let files = data::list(&args.data.join(NAME))?;
    let name = |file: &Path| file.file_stem().map(|n| n.to_string_lossy().into_owned());
    if !args.section(NAME, files.iter().filter_map(|f| name(f))) {
        return Ok(None);
    }
    let mut rows = Vec::new();
    let begun = Instant::now();
    for file in &files {
        let name = name(file).context("a file without a name")?;
        if !args.instance(NAME, &name) {
            continue;
        }
        let instance =
            Instance::read(&data::read(file)?).with_context(|| format!("plan {name}"))?;
        let (row, actions) = order(&name, &instance).with_context(|| format!("plan {name}"))?;
        if let Some(folder) = &args.write {
            let file = folder.join(format!("{name}.json"));
            let text = serde_json::to_string_pretty(&instance.with(&actions))?;
            std::fs::write(&file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        rows.push(row);
    }
    Ok(Some(section(rows, begun.elapsed())))
}

fn section(instances: Vec<Row>, took: Duration) -> Section {
    let count = instances.len().max(1) as f64;
    let mean = |of: fn(&Row) -> f64| instances.iter().map(of).sum::<f64>() / count;
    let worse = |r: &&Row| r.makespan_seconds > r.published_seconds;
    let section = Section {
        mean_makespan_seconds: mean(|r| r.makespan_seconds),
        mean_published_seconds: mean(|r| r.published_seconds),
        mean_bound_seconds: mean(|r| r.bound_seconds),
        worse_than_published: instances.iter().filter(worse).count(),
        invalid: instances.iter().filter(|r| r.invalid.is_some()).count(),
        seconds: took.as_secs_f64(),
        instances,
    };
    eprintln!(
        "migration plans: mean {:.2} s, published {:.2} s, bound {:.2} s; {} worse, {} invalid",
        section.mean_makespan_seconds,
        section.mean_published_seconds,
        section.mean_bound_seconds,
        section.worse_than_published,
        section.invalid
    );
    section
}

fn order(name: &str, instance: &Instance) -> Result<(Row, Vec<Action>)> {
    let problem = problem(instance);
    let plan = plan(&problem, &Effort { schedules: SCHEDULES, ..Effort::default() })?;
    let actions = actions(instance, &plan);
    let invalid = checker::check(instance, &actions).err().map(|e| format!("{e:#}"));
    let row = Row {
        name: name.to_owned(),
        makespan_seconds: checker::makespan(&actions),
        published_seconds: checker::makespan(&instance.actions),
        bound_seconds: plan.bound.as_secs_f64(),
        schedules: plan.evaluated,
        invalid,
    };
    eprintln!(
        "{:<12} {:>7.2} s, published {:>5.0} s, bound {:>7.2} s, {:>6} schedules {}",
        row.name,
        row.makespan_seconds,
        row.published_seconds,
        row.bound_seconds,
        row.schedules,
        row.invalid.as_deref().unwrap_or_default()
    );
    Ok((row, actions))
}

/// The plan's input for the planner: host `n` leaves by link 2n and is reached by
/// link 2n + 1.
fn problem(instance: &Instance) -> Problem {
    let hosts = instance.hosts.iter().enumerate().map(|(i, host)| Host {
        free: host.free.clone(),
        leave: 2 * i,
        arrive: 2 * i + 1,
        ..Host::default()
    });
    let link = |mbit: u64| Link { rate: Rate(mbit * 1_000_000), at_once: None };
    let moves = instance.actions.iter().map(|action| {
        let way = instance.hosts[action.from].mbit.min(instance.hosts[action.to].mbit);
        let mut rates: Vec<u64> = SHARES.iter().map(|(n, d)| way * n / d).collect();
        // What a move may leave to others of the hosts' links.
        rates.extend(instance.hosts.iter().map(|h| h.mbit).filter(|mbit| *mbit < way));
        rates.sort_unstable_by(|a, b| b.cmp(a));
        rates.dedup();
        let vm = &instance.vms[&action.vm];
        let paces = rates.iter().filter_map(|mbit| {
            let time = Duration::from_secs_f64(vm.seconds(*mbit)?);
            Some(Pace { rate: Rate(mbit * 1_000_000), time })
        });
        Move {
            from: action.from,
            to: action.to,
            needs: vm.needs.clone(),
            paces: paces.collect(),
            via: (0..instance.hosts.len()).collect(),
            ..Move::default()
        }
    });
    Problem {
        hosts: hosts.collect(),
        links: instance.hosts.iter().flat_map(|h| [link(h.mbit), link(h.mbit)]).collect(),
        moves: moves.collect(),
        ..Problem::default()
    }
}

fn actions(instance: &Instance, plan: &Plan) -> Vec<Action> {
    let steps = plan.steps.iter().map(|step| Action {
        vm: instance.actions[step.of].vm,
        from: step.from,
        to: step.to,
        start: step.start.as_secs_f64(),
        end: step.end.as_secs_f64(),
        mbit: step.rate.0 / 1_000_000,
    });
    steps.collect()
}
