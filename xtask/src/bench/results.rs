//! What was measured, as JSON and as a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use types::PageCounts;

use super::contestant::Contestant;
use super::cutter::Cuts;
use super::options::Setting;
use crate::proc;

/// One move.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Run {
    /// The VM runs at the destination.
    pub(super) completed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    /// From the order, before anything of the destination is there, until the VM
    /// runs there and the source has been told; Godwit's until all is cleaned up.
    pub(super) total_seconds: f64,
    /// Part of it: until the destination's QEMU and memory are ready and memory may travel.
    pub(super) prepare_seconds: f64,
    /// Bytes on the source's link, both ways, whole frames.
    pub(super) wire_bytes: u64,
    /// The longest gap in the guest's heartbeat that a witness outside saw, from
    /// when memory travels on.
    pub(super) blackout_seconds: Option<f64>,
    /// The longest gap before that, when the emulator begins to log writes.
    pub(super) start_gap_seconds: f64,
    /// Of all QEMUs (the guest's processors with them) and carriers, of both hosts.
    pub(super) cpu_seconds: f64,
    /// What the guest rewrote meanwhile, in bytes a second, pages counted whole.
    pub(super) dirtied_bytes_per_second: f64,
    /// Most anonymous memory of one carrier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) carrier_bytes: Option<u64>,
    /// How often the link was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cuts: Option<Cuts>,
    /// Passes over memory, as Godwit reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rounds: Option<u64>,
    /// Pages by kind, as Godwit reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pages: Option<PageCounts>,
    /// The blackout that Godwit reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reported_blackout_seconds: Option<f64>,
}

/// Medians of the runs that completed; of those that did not, where none did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Medians {
    pub(super) total_seconds: f64,
    pub(super) prepare_seconds: f64,
    pub(super) wire_bytes: f64,
    pub(super) blackout_seconds: Option<f64>,
    pub(super) cpu_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) carrier_bytes: Option<f64>,
}

/// One contestant's runs.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// All of them completed.
    pub(super) completed: bool,
    /// How many did.
    pub(super) completed_runs: usize,
    #[serde(flatten)]
    pub(super) medians: Medians,
    /// Of the blackouts of all completed runs.
    pub(super) blackout_p50_seconds: Option<f64>,
    pub(super) blackout_p99_seconds: Option<f64>,
    pub(super) runs: Vec<Run>,
}

/// Godwit over another; nothing where one of them has not completed a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Ratios {
    pub(super) total: Option<f64>,
    pub(super) wire_bytes: Option<f64>,
    pub(super) blackout: Option<f64>,
    pub(super) cpu: Option<f64>,
}

/// Everything about one bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) bench: &'static str,
    pub(super) commit: String,
    pub(super) machine: Machine,
    pub(super) qemu: String,
    pub(super) setting: Setting,
    /// Bytes of the guest's pages that are not all zero.
    pub(super) nonzero_bytes: u64,
    /// How long the link takes for these bytes as they are.
    pub(super) physical_seconds: Option<f64>,
    pub(super) contestants: BTreeMap<Contestant, Measured>,
    /// Godwit's moves over the same link without the cuts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) undisturbed: Option<Measured>,
    /// Ways that this QEMU does not have, and what it says of them.
    pub(super) unavailable: BTreeMap<Contestant, String>,
    /// Godwit over the best of the others on each measure.
    pub(super) ratios: Ratios,
    pub(super) ratios_to: BTreeMap<Contestant, Ratios>,
    /// What the guests found when they checked their memory after all moves.
    pub(super) guests: BTreeMap<&'static str, String>,
    /// What only this bench has.
    #[serde(flatten)]
    pub(super) more: serde_json::Map<String, Value>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    processors: usize,
    model: String,
    /// Load averages over a minute, before and after: of an idle machine the
    /// first is near 0.
    load_before: f64,
    load_after: f64,
}

impl Machine {
    pub(super) fn look() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.map_or("unknown", |(_, name)| name).to_owned(),
            load_before: load(),
            load_after: 0.0,
        }
    }

    pub(super) fn finish(mut self) -> Self {
        self.load_after = load();
        self
    }
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// The commit that is measured; `+` where files differ from it.
pub(super) fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let limit = Duration::from_secs(10);
        proc::output(Command::new("git").arg("-C").arg(root).args(args), limit).ok()
    };
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "-uno"]).is_some_and(|text| !text.is_empty());
    format!("{}{}", head.trim(), if changed { "+" } else { "" })
}

impl Measured {
    pub(super) fn of(runs: Vec<Run>) -> Self {
        let completed_runs = runs.iter().filter(|run| run.completed).count();
        let counted = |run: &&Run| run.completed || completed_runs == 0;
        let of = |value: fn(&Run) -> Option<f64>| {
            let mut all: Vec<f64> = runs.iter().filter(counted).filter_map(value).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let blackouts = of(|r| r.blackout_seconds);
        let median = |value| middle(&of(value)).unwrap_or(f64::NAN);
        Self {
            completed: completed_runs == runs.len(),
            completed_runs,
            medians: Medians {
                total_seconds: median(|r| Some(r.total_seconds)),
                prepare_seconds: median(|r| Some(r.prepare_seconds)),
                wire_bytes: median(|r| Some(r.wire_bytes as f64)),
                blackout_seconds: middle(&blackouts),
                cpu_seconds: median(|r| Some(r.cpu_seconds)),
                carrier_bytes: middle(&of(|r| r.carrier_bytes.map(|b| b as f64))),
            },
            blackout_p50_seconds: percentile(&blackouts, 50),
            blackout_p99_seconds: percentile(&blackouts, 99),
            runs,
        }
    }
}

/// The middle of sorted values; of an even number the mean of the two middle ones.
fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    let odd = sorted.len() % 2 == 1;
    Some(if odd { upper } else { (upper + sorted.get(half - 1)?) / 2.0 })
}

/// The smallest of sorted values that so many percent do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// Godwit over each of the others, and over the best on each measure.
pub(super) fn ratios(
    contestants: &BTreeMap<Contestant, Measured>,
) -> (Ratios, BTreeMap<Contestant, Ratios>) {
    let done = |result: &&Measured| result.completed_runs > 0;
    let Some(own) = contestants.get(&Contestant::Godwit).filter(done) else {
        return Default::default();
    };
    let mut each = BTreeMap::new();
    for (contestant, other) in contestants {
        if *contestant != Contestant::Godwit && done(&other) {
            let over = |value: fn(&Medians) -> Option<f64>| {
                let (own, other) = (value(&own.medians)?, value(&other.medians)?);
                (other > 0.0).then_some(own / other)
            };
            let ratios = Ratios {
                total: over(|m| Some(m.total_seconds)),
                wire_bytes: over(|m| Some(m.wire_bytes)),
                blackout: over(|m| m.blackout_seconds),
                cpu: over(|m| Some(m.cpu_seconds)),
            };
            each.insert(*contestant, ratios);
        }
    }
    // The best of the others is the one that Godwit compares worst with.
    let worst =
        |value: fn(&Ratios) -> Option<f64>| each.values().filter_map(value).reduce(f64::max);
    let best = Ratios {
        total: worst(|r| r.total),
        wire_bytes: worst(|r| r.wire_bytes),
        blackout: worst(|r| r.blackout),
        cpu: worst(|r| r.cpu),
    };
    (best, each)
}

/// Whether a contestant completed, and its medians: the short form that `cut` and
/// `hot` answer with.
pub(super) fn verdict(result: &Measured) -> Value {
    json!({
        "completed": result.completed,
        "completed_runs": result.completed_runs,
        "runs": result.runs.len(),
        "total_seconds": result.medians.total_seconds,
        "blackout_seconds": result.medians.blackout_seconds,
        "wire_bytes": result.medians.wire_bytes,
        "cuts": result.runs.iter().filter_map(|run| run.cuts).collect::<Vec<_>>(),
        "failure": result.runs.iter().find_map(|run| run.failure.clone()),
    })
}

/// For people, on standard error.
pub(super) fn table(report: &Report) {
    eprintln!("\n{}: {}", report.bench, report.setting.describe());
    eprintln!(
        "{}, commit {}, {} x {}, load {:.1} to {:.1}; medians",
        report.qemu,
        report.commit,
        report.machine.processors,
        report.machine.model,
        report.machine.load_before,
        report.machine.load_after
    );
    let mib = report.nonzero_bytes >> 20;
    let on_the_link =
        report.physical_seconds.map(|s| format!(": {s:.2} s on this link as they are"));
    eprintln!("{mib} MiB are not zero{}", on_the_link.unwrap_or_default());
    eprintln!(
        "\n{:<14}{:>9}{:>9}{:>10}{:>13}{:>8}{:>11}{:>13}",
        "", "total s", "ready s", "wire MiB", "blackout ms", "CPU s", "completed", "carrier MiB"
    );
    for (contestant, result) in &report.contestants {
        let m = &result.medians;
        eprintln!(
            "{:<14}{:>9.2}{:>9.2}{:>10.1}{:>13}{:>8.2}{:>11}{:>13}",
            contestant.name(),
            m.total_seconds,
            m.prepare_seconds,
            m.wire_bytes / 1_048_576.0,
            m.blackout_seconds.map_or("-".into(), |s| format!("{:.0}", s * 1e3)),
            m.cpu_seconds,
            format!("{}/{}", result.completed_runs, result.runs.len()),
            m.carrier_bytes.map_or("-".into(), |b| format!("{:.1}", b / 1_048_576.0))
        );
    }
    for (contestant, why) in &report.unavailable {
        eprintln!("{:<14}not in this QEMU: {why}", contestant.name());
    }
    let show = |ratio: Option<f64>| ratio.map_or("-".into(), |r| format!("{r:.2}"));
    let r = &report.ratios;
    eprintln!(
        "godwit over the best of the others on each: total {}, wire bytes {}, blackout {}, CPU {}",
        show(r.total),
        show(r.wire_bytes),
        show(r.blackout),
        show(r.cpu)
    );
    for (guest, found) in &report.guests {
        eprintln!("{guest}'s guest: {found}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(total_seconds: f64) -> Run {
        Run {
            completed: true,
            total_seconds,
            blackout_seconds: Some(total_seconds / 10.0),
            wire_bytes: 1000,
            ..Run::default()
        }
    }

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(middle(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(middle(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(middle(&[]), None);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn runs_that_failed_count_only_where_none_completed() {
        let failed = Run { failure: Some("why".into()), total_seconds: 60.0, ..Run::default() };
        let mixed = Measured::of(vec![run(3.0), failed.clone(), run(1.0)]);
        assert_eq!((mixed.completed, mixed.completed_runs), (false, 2));
        assert_eq!(mixed.medians.total_seconds, 2.0);
        let none = Measured::of(vec![failed.clone(), failed]);
        assert_eq!(none.medians.total_seconds, 60.0);
        assert_eq!(none.medians.blackout_seconds, None);
        assert_eq!(verdict(&none)["completed"], false);
        assert_eq!(verdict(&none)["failure"], "why");
    }

    #[test]
    fn ratios_are_to_the_best_on_each_measure() {
        let contestants = BTreeMap::from([
            (Contestant::Godwit, Measured::of(vec![run(2.0)])),
            (Contestant::Multifd, Measured::of(vec![run(4.0)])),
            (Contestant::Xbzrle, Measured::of(vec![Run { wire_bytes: 100, ..run(8.0) }])),
            (Contestant::Precopy, Measured::of(vec![Run::default()])),
        ]);
        let (best, each) = ratios(&contestants);
        assert_eq!((best.total, best.wire_bytes), (Some(0.5), Some(10.0)));
        assert_eq!(each[&Contestant::Xbzrle].total, Some(0.25));
        assert!(!each.contains_key(&Contestant::Precopy));
        assert_eq!(ratios(&BTreeMap::new()).0, Ratios::default());
    }
}
