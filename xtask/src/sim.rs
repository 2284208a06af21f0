//! `cargo xtask sim`: faulted migrations of the cores, by the million.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, bail};

/// What is simulated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Migrations, at least.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// The first run's seed; runs follow each other with rising seeds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Play one run again and tell its story.
    #[arg(long, conflicts_with_all = ["count", "seed"])]
    replay: Option<u64>,
    /// Threads; as many as there are processors when absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What is played at every change.
    pub(crate) fn short() -> Self {
        Self { count: 10_000, seed: 1, replay: None, threads: None, json: false }
    }
}

/// Plays runs and tells what they came to.
///
/// # Errors
/// Something was broken; the seeds are told.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(seed) = args.replay {
        return replay(seed, args.json);
    }
    let threads = args.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let begun = Instant::now();
    let summary = sim::run_many(args.seed, args.count, threads, &AtomicBool::new(false));
    let seconds = begun.elapsed().as_secs_f64();
    let rate = summary.migrations as f64 / seconds.max(0.001);
    if args.json {
        let mut value = serde_json::to_value(&summary)?;
        value["seconds"] = seconds.into();
        value["migrations_per_second"] = rate.round().into();
        value["first_seed"] = args.seed.into();
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!(
            "{} migrations in {} runs (seeds {} to {}), {} faults, {seconds:.0} s, {rate:.0} a second",
            summary.migrations,
            summary.runs,
            args.seed,
            args.seed + summary.runs.saturating_sub(1),
            summary.faults,
        );
        println!(
            "{} completed, {} failed and {} cancelled with the VM where it was",
            summary.completed, summary.failed, summary.cancelled
        );
    }
    for report in &summary.violations {
        if let Some(violation) = &report.violation {
            eprintln!("seed {}: {} at {} ms", report.seed, violation.what, violation.at_ms);
        }
    }
    if let Some(first) = summary.violations.first() {
        bail!("something was broken; `cargo xtask sim --replay {}` tells the story", first.seed);
    }
    Ok(())
}

fn replay(seed: u64, json: bool) -> Result<()> {
    let (report, story) = sim::replay(seed);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for line in story {
            println!("{line}");
        }
    }
    match report.violation {
        Some(violation) => bail!("{} at {} ms", violation.what, violation.at_ms),
        None => {
            eprintln!("seed {seed}: nothing was broken");
            Ok(())
        }
    }
}
