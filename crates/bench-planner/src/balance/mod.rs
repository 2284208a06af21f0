//! Balance: cluster files of Ganeti's htools, so that `hbal -t` can judge.

mod cluster;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use planner::balance::{Balanced, Host, Limits, Problem, Vm, balance, evacuate};
use serde::Serialize;

use crate::{Args, data};
use cluster::Cluster;

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "balance";

/// As many as `hbal` is given for comparison.
const MOVES: usize = 60;
/// hbal's weights of what it counts for clusters whose disks are shared: free
/// memory and processors promised, each once as they are and once with instances
/// that are only announced (none here); its four loads, each one an instance.
const WEIGHTS: [f64; 3] = [0.5 + 0.5, 0.5 + 0.5, 4.0];
/// hbal's weights of an instance on an offline node: 4 and 16.
const STRANDED: f64 = 20.0;

#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// Of the largest cluster.
    seconds: f64,
    moves: usize,
    score_before: f64,
    score_after: f64,
    /// Planning to empty its two fullest nodes.
    evacuation_seconds: f64,
    evacuation_moves: usize,
    /// Score after each move.
    scores: Vec<f64>,
    clusters: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    nodes: usize,
    instances: usize,
    /// Why it was not balanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsupported: Option<String>,
    seconds: f64,
    moves: usize,
    score_before: f64,
    score_after: f64,
    #[serde(skip)]
    evacuation: (f64, usize),
    #[serde(skip)]
    scores: Vec<f64>,
}

/// Balances all clusters that are asked for.
///
/// # Errors
/// A file is malformed, or a result breaks a rule or cannot be written.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    let mut rows = Vec::new();
    let mut named = Vec::new();
    for file in data::list(&args.data.join(NAME))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.context("a file without a name")?;
        let name = name.trim_end_matches(".gz").trim_end_matches(".data").to_owned();
        named.push((name, file));
    }
    if !args.section(NAME, named.iter().map(|(name, _)| name.clone())) {
        return Ok(None);
    }
    for (name, file) in named.iter().filter(|(name, _)| args.instance(NAME, name)) {
        let text = String::from_utf8(data::read(file)?).context("not text")?;
        let cluster = Cluster::read(&text).with_context(|| format!("cluster {name}"))?;
        rows.push(measure(args, name, &cluster).with_context(|| format!("cluster {name}"))?);
    }
    let Some(largest) = rows.iter().max_by_key(|r| r.instances) else { return Ok(None) };
    Ok(Some(Section {
        seconds: largest.seconds,
        moves: largest.moves,
        score_before: largest.score_before,
        score_after: largest.score_after,
        evacuation_seconds: largest.evacuation.0,
        evacuation_moves: largest.evacuation.1,
        scores: largest.scores.clone(),
        clusters: rows,
    }))
}

fn measure(args: &Args, name: &str, cluster: &Cluster) -> Result<Row> {
    let mut row = Row {
        name: name.to_owned(),
        nodes: cluster.nodes.len(),
        instances: cluster.instances.len(),
        unsupported: cluster.unsupported(),
        seconds: 0.0,
        moves: 0,
        score_before: 0.0,
        score_after: 0.0,
        evacuation: (0.0, 0),
        scores: Vec::new(),
    };
    if let Some(why) = &row.unsupported {
        eprintln!("{name:<24} left out: {why}");
        return Ok(row);
    }
    let begun = Instant::now();
    let found = balance(&problem(cluster), &Limits { moves: MOVES, ..Limits::default() });
    row.seconds = begun.elapsed().as_secs_f64();
    let balanced = carried_out(cluster, &found)?;
    ensure!(
        (balanced.score() - found.after).abs() < 1e-6,
        "the planner's score is {} and the checker's {}",
        found.after,
        balanced.score()
    );
    row.moves = found.moves.len();
    (row.score_before, row.score_after) = (cluster.score(), balanced.score());
    row.scores = found.moves.iter().map(|m| m.score).collect();
    let mut drained = cluster.clone();
    drained.close_fullest(2);
    let begun = Instant::now();
    let left = evacuate(&problem(&drained), &Limits::default());
    row.evacuation = (begun.elapsed().as_secs_f64(), left.moves.len());
    let emptied = carried_out(&drained, &left)?;
    let stranded = emptied.stranded();
    ensure!(row.nodes < 4 || stranded == 0, "{stranded} instances are left on drained nodes");
    if let Some(folder) = &args.write {
        for (kind, cluster) in [("balanced", &balanced), ("evacuated", &emptied)] {
            let file = folder.join(format!("{name}.{kind}.data"));
            std::fs::write(&file, cluster.to_string())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    eprintln!(
        "{name:<24} {:.8} -> {:.8} in {} moves, {:.3} s; two nodes emptied: {} moves, {:.4} s",
        row.score_before,
        row.score_after,
        row.moves,
        row.seconds,
        row.evacuation.1,
        row.evacuation.0
    );
    Ok(row)
}

/// The cluster as the planner sees it.
fn problem(cluster: &Cluster) -> Problem {
    let hosts = cluster.nodes.iter().map(|n| Host {
        free: vec![n.free_memory, cluster.vcpus_left(n)],
        load: vec![(n.memory - n.free_memory - cluster.memory_on(&n.name)) as f64, 0.0, 0.0],
        capacity: vec![n.memory as f64, n.cpus as f64, 1.0],
        open: n.open(),
    });
    let vms = cluster.instances.iter().map(|i| Vm {
        host: cluster.node(&i.node),
        needs: vec![i.memory, i.vcpus],
        load: vec![i.memory as f64, i.vcpus as f64, 1.0],
        movable: true,
        barred: Vec::new(),
    });
    Problem {
        hosts: hosts.collect(),
        vms: vms.collect(),
        weights: WEIGHTS.to_vec(),
        stranded: STRANDED,
    }
}

/// The cluster after the moves.
fn carried_out(cluster: &Cluster, found: &Balanced) -> Result<Cluster> {
    let mut after = cluster.clone();
    for m in &found.moves {
        after.shift(m.vm, m.from, m.to)?;
    }
    after.overfull(cluster)?;
    Ok(after)
}
