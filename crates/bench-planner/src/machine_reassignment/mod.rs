//! Machine reassignment: the ROADEF/EURO Challenge 2012.

mod checker;
mod convert;
mod model;
mod solve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{Args, data};
use model::Model;

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "machine-reassignment";

/// The challenge's time, and a short one.
const SECONDS: [u64; 2] = [10, 300];

/// Best costs of the challenge's final, and what an instance's score counts from.
const BEST: [(&str, i64); 8] = [
    ("b_1", 3_339_186_879),
    ("b_2", 1_015_553_800),
    ("b_3", 156_835_787),
    ("b_4", 4_677_823_040),
    ("b_5", 923_092_380),
    ("b_6", 9_525_857_752),
    ("b_8", 1_214_458_817),
    ("b_9", 15_885_486_698),
];

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// `score_10s`, `score_300s`: sums over the instances whose best is known.
    #[serde(flatten)]
    scores: BTreeMap<String, f64>,
    /// Instances whose result breaks a hard constraint or costs other than told.
    invalid: usize,
    instances: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    initial: i64,
    /// `cost_10s`, `score_10s`, `moves_10s`, and so on.
    #[serde(flatten)]
    results: BTreeMap<String, serde_json::Number>,
    /// What is wrong with a result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalid: Vec<String>,
}

/// Measures the instances that are asked for.
///
/// # Errors
/// A file is malformed or cannot be written.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    let folder = args.data.join(NAME);
    let names = instances(&folder)?;
    if !args.section(NAME, names.iter().cloned()) {
        return Ok(None);
    }
    let seconds = args.seconds.map_or(SECONDS.to_vec(), |s| vec![s]);
    let mut section = Section { scores: BTreeMap::new(), invalid: 0, instances: Vec::new() };
    for name in names.iter().filter(|n| args.instance(NAME, n)) {
        let row = measure(&folder, name, &seconds, args.write.as_deref(), &mut section.scores)
            .with_context(|| format!("instance {name}"))?;
        section.invalid += usize::from(!row.invalid.is_empty());
        section.instances.push(row);
    }
    for (name, score) in &section.scores {
        eprintln!("{name} {score:.4}");
    }
    Ok(Some(section))
}

fn measure(
    folder: &Path,
    name: &str,
    seconds: &[u64],
    write: Option<&Path>,
    scores: &mut BTreeMap<String, f64>,
) -> Result<Row> {
    let mut row =
        Row { name: name.to_owned(), initial: 0, results: BTreeMap::new(), invalid: Vec::new() };
    for &limit in seconds {
        // Reading is part of the time, as it was in the challenge.
        let begun = Instant::now();
        let instance = Instance::read(folder, name)?;
        let planned = convert::convert(&instance.model, &instance.initial);
        let found = solve::solve(&planned, begun, Duration::from_secs(limit))?;
        if let Some(write) = write {
            let file = write.join(format!("assignment_{name}_{limit}s.txt"));
            std::fs::write(&file, text(&found.assignment))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let took = begun.elapsed().as_secs_f64();
        row.initial = checker::cost(&instance.model, &instance.initial, &instance.initial)?;
        let checked = checker::cost(&instance.model, &instance.initial, &found.assignment);
        match checked {
            Ok(cost) if cost == found.cost => {}
            Ok(cost) => row.invalid.push(format!("costs {cost} and not {}", found.cost)),
            Err(why) => row.invalid.push(format!("after {limit} s: {why:#}")),
        }
        let mut tell = |what: &str, value: serde_json::Number| {
            row.results.insert(format!("{what}_{limit}s"), value);
        };
        tell("cost", found.cost.into());
        tell("moves", found.evaluated.into());
        let best = BEST.iter().find(|(n, _)| *n == name).map(|(_, best)| best);
        let score = best.map(|best| 100.0 * (found.cost - best) as f64 / row.initial as f64);
        if let Some(score) = score {
            *scores.entry(format!("score_{limit}s")).or_default() += score;
            tell("score", serde_json::Number::from_f64(score).context("no score")?);
        }
        let score = score.map_or_else(|| "   -".to_owned(), |s| format!("{s:.4}"));
        let valid = if row.invalid.is_empty() { "valid" } else { "INVALID" };
        eprintln!(
            "{name:<6} {took:>6.1} s  cost {:>14}  score {score}  {:>6} M moves  {valid}",
            found.cost,
            found.evaluated / 1_000_000
        );
    }
    Ok(row)
}

/// An assignment in the challenge's own format.
fn text(assignment: &[u32]) -> String {
    let mut text = assignment.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    text.push('\n');
    text
}

struct Instance {
    model: Model,
    initial: Vec<u32>,
}

impl Instance {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let file = |kind: &str| -> PathBuf {
            let packed = folder.join(format!("{kind}_{name}.txt.gz"));
            if packed.exists() { packed } else { folder.join(format!("{kind}_{name}.txt")) }
        };
        let model = Model::read(&data::read(&file("model"))?)?;
        let initial = model.read_assignment(&data::read(&file("assignment"))?)?;
        Ok(Self { model, initial })
    }
}

/// Names of the instances in a folder: `b_1` for `model_b_1.txt.gz`.
fn instances(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in data::list(folder)? {
        let Some(name) = file.file_name().and_then(|n| n.to_str()) else { continue };
        let stem = name.strip_suffix(".gz").unwrap_or(name);
        if let Some(name) = stem.strip_prefix("model_").and_then(|n| n.strip_suffix(".txt")) {
            names.push(name.to_owned());
        }
    }
    names.dedup();
    Ok(names)
}
