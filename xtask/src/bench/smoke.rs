//! The benches with small guests, to see that they work; the numbers mean nothing.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use super::contestant::Contestant;
use super::cutter::COPY_CUTS;
use super::results::{Measured, Report};
use super::{Bench, measure};

/// A bench as it is typed.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    bench: Bench,
}

const SMALL: &str = "--debug --yes --memory 256MiB --fill 48MiB --dirty-set 8MiB --runs 1";

/// Plays them: all contestants once, a way home after a reboot, and cuts.
///
/// # Errors
/// One does not work.
pub(crate) fn run(root: &Path) -> Result<()> {
    let all = play(root, "migrate")?;
    ensure!(
        all.contestants.len() + all.unavailable.len() == Contestant::ALL.len(),
        "contestants are missing: {:?}",
        all.contestants.keys()
    );
    for (contestant, measured) in &all.contestants {
        whole(*contestant, measured)?;
    }
    let home = play(root, "return --away 1 --reboot --contestants godwit")?;
    whole(Contestant::Godwit, of(&home, Contestant::Godwit)?)?;
    let cut = play(root, "cut --link 200mbit --contestants godwit,precopy")?;
    let own = of(&cut, Contestant::Godwit)?;
    let cuts = own.runs.iter().filter_map(|run| run.cuts).map(|c| (c.copy, c.tail));
    ensure!(own.completed, "godwit does not survive cuts: {:?}", own.runs);
    let cuts: Vec<_> = cuts.collect();
    ensure!(cuts == [(COPY_CUTS, 1)], "other cuts than were meant: {cuts:?}");
    let plain = of(&cut, Contestant::Precopy)?;
    ensure!(!plain.completed, "QEMU's own migration survived a reset: {:?}", plain.runs);
    Ok(())
}

fn play(root: &Path, line: &str) -> Result<Report> {
    let words = ["bench"].into_iter().chain(line.split(' ')).chain(SMALL.split(' '));
    measure(root, &Line::try_parse_from(words)?.bench).with_context(|| format!("bench {line}"))
}

fn of(report: &Report, contestant: Contestant) -> Result<&Measured> {
    report.contestants.get(&contestant).with_context(|| format!("no runs of {contestant:?}"))
}

/// A run that completed has cost something, and was seen to stop the guest.
fn whole(contestant: Contestant, measured: &Measured) -> Result<()> {
    for run in &measured.runs {
        let seen = run.blackout_seconds.is_some_and(|s| s > 0.0);
        let cost = run.wire_bytes > 0 && run.cpu_seconds > 0.0;
        let named = contestant.name();
        ensure!(run.completed && seen && cost, "{named}: {run:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_benches_are_lines_that_can_be_typed() {
        for line in ["migrate", "return --away 1 --reboot", "hot", "fast", "cut", "blackout"] {
            let words = ["bench"].into_iter().chain(line.split(' ')).chain(SMALL.split(' '));
            Line::try_parse_from(words).unwrap();
        }
    }
}
