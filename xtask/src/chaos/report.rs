//! What all runs together say.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::arena::{Ended, Kind, Violation};
use super::tally::Turn;

/// One run, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) cell: String,
    /// The point was reached and the fault made.
    pub(super) struck: bool,
    pub(super) crashed: bool,
    pub(super) recovery_seconds: Option<f64>,
    pub(super) in_doubt_seconds: f64,
    pub(super) violations: Vec<Violation>,
}

impl Run {
    pub(super) fn new(turn: &Turn, seed: u64, ended: &Ended) -> Self {
        Self {
            number: turn.number,
            seed,
            cell: turn.cell.to_string(),
            struck: ended.struck,
            crashed: ended.crashed,
            recovery_seconds: ended.recovery.map(|t| t.as_secs_f64()),
            in_doubt_seconds: ended.in_doubt.as_secs_f64(),
            violations: ended.violations.clone(),
        }
    }
}

/// Two copies that run side by side are seen with every heartbeat.
const SHOWN: usize = 4;

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} {:<62} ", self.number, self.cell)?;
        match (self.struck, self.crashed, self.recovery_seconds) {
            (false, ..) => write!(f, "not reached")?,
            (_, true, _) => write!(f, "ended with its host")?,
            (.., Some(s)) => write!(f, "whole after {s:.2} s")?,
            (.., None) => write!(f, "not whole")?,
        }
        let more = self.violations.len().saturating_sub(SHOWN);
        let mut shown = self.violations.iter().take(SHOWN);
        shown.try_for_each(|v| write!(f, "\n      {:?}: {}", v.kind, v.what))?;
        if more > 0 { write!(f, "\n      and {more} more") } else { Ok(()) }
    }
}

/// Reads the runs of a file; none where there is no file yet.
///
/// # Errors
/// A line that is no run.
pub(super) fn read(file: &Path) -> Result<Vec<Run>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let lines = BufReader::new(File::open(file).with_context(|| file.display().to_string())?);
    lines
        .lines()
        .enumerate()
        .map(|(n, line)| {
            let place = || format!("{}, line {}", file.display(), n + 1);
            serde_json::from_str(&line.with_context(place)?).with_context(place)
        })
        .collect()
}

/// Adds a run to a file.
///
/// # Errors
/// It cannot be written.
pub(super) fn append(file: &Path, run: &Run) -> Result<()> {
    let line = serde_json::to_string(run)? + "\n";
    let mut file = File::options().create(true).append(true).open(file)?;
    file.write_all(line.as_bytes()).context("the run is not kept")
}

/// Quantiles of times in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

/// What all runs together say.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Migrations with a fault that was made.
    count: usize,
    lost: usize,
    duplicated: usize,
    stale: usize,
    leaked: usize,
    stopped_needlessly: usize,
    /// VMs that ended with the host or QEMU that was made to end, as they must.
    #[serde(skip)]
    crashed: usize,
    /// Hits of each cell.
    cells: BTreeMap<String, usize>,
    /// From the fault's end until the VM ran and no attempt held it.
    recovery_seconds: Times,
    /// The longest silence of a guest, the fault included.
    in_doubt_seconds_max: f64,
    /// At 95 %, no more than this share of such migrations violates anything.
    #[serde(skip)]
    bound: f64,
    pub(super) violations: Vec<Run>,
}

impl Report {
    pub(super) fn of(runs: &[Run]) -> Self {
        let struck: Vec<&Run> = runs.iter().filter(|run| run.struck).collect();
        let of_kind =
            |kind| runs.iter().filter(|r| r.violations.iter().any(|v| v.kind == kind)).count();
        let mut cells = BTreeMap::new();
        for run in &struck {
            *cells.entry(run.cell.clone()).or_default() += 1;
        }
        let violations: Vec<Run> =
            runs.iter().filter(|run| !run.violations.is_empty()).cloned().collect();
        Self {
            count: struck.len(),
            lost: of_kind(Kind::Lost),
            duplicated: of_kind(Kind::Duplicated),
            stale: of_kind(Kind::Stale),
            leaked: of_kind(Kind::Leaked),
            stopped_needlessly: of_kind(Kind::StoppedNeedlessly),
            crashed: struck.iter().filter(|run| run.crashed).count(),
            cells,
            recovery_seconds: times(struck.iter().filter_map(|run| run.recovery_seconds).collect()),
            in_doubt_seconds_max: runs.iter().map(|r| r.in_doubt_seconds).fold(0.0, f64::max),
            bound: bound(violations.len(), struck.len()),
            violations,
        }
    }
}

fn times(mut all: Vec<f64>) -> Times {
    all.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * all.len() as f64).ceil() as usize;
        all.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    };
    Times { p50: at(0.5), p99: at(0.99), max: at(1.0) }
}

/// Upper end of the exact one-sided 95 % interval (Clopper and Pearson 1934) of a
/// rate of which `seen` in `all` were seen.
fn bound(seen: usize, all: usize) -> f64 {
    if all == 0 || seen >= all {
        return 1.0;
    }
    let at_most_seen = |p: f64| {
        let (mut term, mut sum) = ((1.0 - p).powf(all as f64), 0.0);
        for k in 0..=seen {
            sum += term;
            term *= (all - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most_seen(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.cells.values().min().copied().unwrap_or(0);
        writeln!(f, "\nMigrations with a fault  {}", self.count)?;
        writeln!(
            f,
            "Cells                    {}, each hit {least} times or more",
            self.cells.len()
        )?;
        writeln!(f, "Lost                     {}", self.lost)?;
        writeln!(f, "Duplicated               {}", self.duplicated)?;
        writeln!(f, "Stale                    {}", self.stale)?;
        writeln!(f, "Leaked                   {}", self.leaked)?;
        writeln!(f, "Stopped needlessly       {}", self.stopped_needlessly)?;
        writeln!(f, "Ended with their host    {}", self.crashed)?;
        let Times { p50, p99, max } = self.recovery_seconds;
        writeln!(
            f,
            "Whole after              {p50:.2} s (p50), {p99:.2} s (p99), {max:.2} s (max)"
        )?;
        writeln!(f, "Longest silence          {:.2} s", self.in_doubt_seconds_max)?;
        writeln!(
            f,
            "Violations               {} (at 95 %: a rate of {:.1e} at most)",
            self.violations.len(),
            self.bound
        )?;
        self.violations.iter().try_for_each(|run| writeln!(f, "{run}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_in_three_thousand_is_at_most_one_in_a_thousand() {
        assert!((bound(0, 3000) - 9.98e-4).abs() < 1e-5, "{}", bound(0, 3000));
        assert!(bound(1, 3000) > 1.5e-3);
        assert!(bound(0, 0) >= 1.0);
    }

    #[test]
    fn quantiles_are_of_the_runs() {
        let Times { p50, p99, max } = times((1..=200).map(f64::from).collect());
        assert_eq!((p50, p99, max), (100.0, 198.0, 200.0));
        assert_eq!(times(Vec::new()).max.to_bits(), 0);
    }
}
