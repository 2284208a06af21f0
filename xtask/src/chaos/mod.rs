//! `cargo xtask chaos`: real migrations of a real guest, each with one fault at one
//! exact point, watched by instruments that trust nobody.

mod arena;
mod cells;
mod disk;
mod fault;
mod plant;
mod points;
mod report;
mod tally;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Parts};
use crate::{proc, setup};
use arena::Arena;
use report::{Report, Run};
use tally::Tally;

/// What to run and how.
#[derive(Debug, Clone, clap::Parser)]
pub(crate) struct Args {
    /// Migrations with a fault.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Decides which of the cells that were hit least comes next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only cells whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Labs at the same time.
    #[arg(long, default_value_t = 2)]
    labs: u8,
    /// Keep each run in this file, one JSON object a line; a batch that is begun
    /// again goes on from there.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Run nothing; report on these files together.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "into")]
    merge: Vec<PathBuf>,
    /// Use this binary in place of the one built here.
    #[arg(long, value_name = "PATH")]
    godwit: Option<PathBuf>,
    /// Plant this bug into a copy first, and want it caught within `--count` runs.
    #[arg(long, value_name = "BUG", value_parser = plant::names(), conflicts_with = "godwit")]
    plant: Option<String>,
    /// List the points that a move without a fault comes to, and end there.
    #[arg(long)]
    points: bool,
    /// List the cells, and end there.
    #[arg(long)]
    cells: bool,
    /// Show the logs of runs that took longer to recover, in seconds.
    #[arg(long, value_name = "SECONDS")]
    slow: Option<f64>,
    /// End at the first violation.
    #[arg(long)]
    fail_fast: bool,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Use the release build.
    #[arg(long)]
    release: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    parts: Parts,
}

impl Args {
    /// The short form, as the checks of every change run it.
    pub(crate) fn short() -> Self {
        use clap::Parser as _;
        Self::parse_from(["chaos", "--count", "30", "--labs", "2", "--yes"])
    }
}

/// Runs, reports, and fails where something was seen that must never be.
///
/// # Errors
/// A violation, or the labs themselves fail.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    if args.cells {
        cells::all().iter().for_each(|cell| println!("{cell}"));
        return Ok(());
    }
    if !args.merge.is_empty() {
        let mut runs = Vec::new();
        for file in &args.merge {
            runs.extend(report::read(file)?);
        }
        return show(&Report::of(&runs), args);
    }
    setup::run(args.yes, args.parts.qemu.is_some())?;
    ensure!(setup::is_root(), "a lab needs root: run this as root");
    let godwit = match (&args.godwit, &args.plant) {
        (Some(godwit), _) => godwit.canonicalize().context("cannot find the binary")?,
        (None, Some(bug)) => plant::build(root, bug)?,
        (None, None) => fleet::build(root, args.release)?,
    };
    if args.points {
        return survey(&godwit, &args.parts);
    }
    let before = args.into.as_deref().map(report::read).transpose()?.unwrap_or_default();
    let tally = Tally::new(args.seed, args.only.as_deref(), args.count, &before)?;
    let done = Mutex::new(before);
    let failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let labs: Vec<_> = (0..args.labs.max(1))
            .map(|lab| {
                let (tally, done, godwit) = (&tally, &done, &godwit);
                let net = args.parts.net.wrapping_add(lab);
                scope.spawn(move || one_lab(godwit, args, net, tally, done))
            })
            .collect();
        labs.into_iter()
            .filter_map(|lab| match lab.join() {
                Ok(result) => result.err(),
                Err(_) => Some(anyhow::anyhow!("a lab's thread panicked")),
            })
            .collect()
    });
    let runs = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let shown = show(&Report::of(&runs), args);
    // A lab that failed says more than what was seen until then.
    failures.into_iter().next().map_or(shown, Err)
}

/// Runs in one lab until enough was run in all of them.
fn one_lab(
    godwit: &Path,
    args: &Args,
    net: u8,
    tally: &Tally,
    done: &Mutex<Vec<Run>>,
) -> Result<()> {
    loop {
        let arena = Arena::up(godwit, &args.parts, net)?;
        let result = play(&arena, args, tally, done);
        if result.is_err() {
            eprintln!("{}", arena.logs());
            tally.give_up();
        }
        arena.down()?;
        // What is broken would spoil the next runs: they get a new lab.
        if result? || tally.over() {
            return Ok(());
        }
    }
}

/// Runs until a violation (false) or the end of all turns (true).
fn play(arena: &Arena, args: &Args, tally: &Tally, done: &Mutex<Vec<Run>>) -> Result<bool> {
    while let Some(turn) = tally.next() {
        proc::alive()?;
        let ended = arena.run(&turn.cell).with_context(|| format!("{}", turn.cell))?;
        tally.ended(&turn, ended.struck);
        let run = Run::new(&turn, args.seed, &ended);
        eprintln!("{run}");
        let good = run.violations.is_empty();
        if args.slow.is_some_and(|slow| run.recovery_seconds.is_some_and(|s| s > slow)) {
            eprintln!("{}", arena.logs());
        }
        if let Some(file) = &args.into {
            report::append(file, &run)?;
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        if !good {
            if args.fail_fast || args.plant.is_some() {
                tally.give_up();
            } else {
                eprintln!("{}", arena.logs());
            }
            return Ok(false);
        }
    }
    Ok(true)
}

fn show(report: &Report, args: &Args) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    match &args.plant {
        Some(bug) => ensure!(!report.violations.is_empty(), "the bug {bug} was not caught"),
        None => ensure!(report.violations.is_empty(), "{} violations", report.violations.len()),
    }
    Ok(())
}

fn survey(godwit: &Path, parts: &Parts) -> Result<()> {
    let arena = Arena::up(godwit, parts, parts.net)?;
    let seen = arena.survey();
    arena.down()?;
    for (point, count) in seen? {
        println!("{count:>6} {point}");
    }
    Ok(())
}
