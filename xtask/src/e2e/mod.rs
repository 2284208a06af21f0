//! `cargo xtask e2e`: real VMs move between real QEMUs, and what must hold is
//! checked from outside.

mod console;
mod faults;
mod linux;
mod live;
mod machines;
mod meanwhile;
mod power;
mod stage;
mod tiny;
mod versions;
mod wire;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Parser as _;
use serde::Serialize;

use types::{Bytes, Mode, Rate};

use crate::fleet::{self, Fleet, Parts, Shape, seconds};
use crate::{proc, setup};
use stage::Stage;

/// What to run and how.
#[derive(Debug, Clone, clap::Parser)]
pub(crate) struct Args {
    /// Only scenarios whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Moves each way, in place of each scenario's own number.
    #[arg(long)]
    count: Option<u32>,
    #[command(flatten)]
    parts: Parts,
    /// Ten moves each way, and the scenarios that take long.
    #[arg(long)]
    long: bool,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// Leave the lab of a failed scenario up, and end there.
    #[arg(long)]
    keep: bool,
    /// Use the release build.
    #[arg(long)]
    release: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
}

impl Args {
    /// The short form, as the checks of every change run it.
    pub(crate) fn short() -> Self {
        Self::parse_from(["e2e", "--yes"])
    }
}

/// The kind of lab a scenario plays in. Scenarios of one kind share a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    /// Links as fast as they are.
    Fast,
    /// Links slow enough that a copy can be disturbed in its course.
    Slow,
    /// Memory travels through QEMU's stream.
    Stream,
    /// The stream's bytes travel as they are.
    Opaque,
    /// Hosts with huge pages.
    Machines,
    /// An older QEMU on host-a, a newer one on host-b.
    Mixed,
    /// The newer QEMU on both hosts, and slow links.
    Newer,
}

impl Scene {
    /// How memory must travel in it.
    fn mode(self) -> Mode {
        match self {
            Scene::Fast | Scene::Slow | Scene::Machines | Scene::Mixed | Scene::Newer => {
                Mode::Direct
            }
            Scene::Stream => Mode::Stream,
            Scene::Opaque => Mode::Opaque,
        }
    }

    fn shape(self, parts: &Parts) -> Result<Shape> {
        let plain = Shape::plain(parts);
        let slow = Some(Rate(100_000_000));
        Ok(match self {
            Scene::Fast => plain,
            Scene::Slow => Shape { link: slow, proxy: true, ..plain },
            Scene::Stream => Shape { data_plane: Some("stream"), ..plain },
            Scene::Opaque => Shape { data_plane: Some("opaque"), ..plain },
            Scene::Machines => Shape { hugepages: Bytes::mib(128), ..plain },
            Scene::Mixed => Shape { newer: vec![("host-b", setup::newer_qemu()?)], ..plain },
            Scene::Newer => {
                let newer = setup::newer_qemu()?;
                let newer = ["host-a", "host-b"].map(|host| (host, newer.clone())).to_vec();
                Shape { newer, link: slow, proxy: true, ..plain }
            }
        })
    }
}

/// Something that must hold, played out.
struct Scenario {
    /// Short name.
    name: &'static str,
    /// What it shows.
    about: &'static str,
    /// Where it plays.
    scene: Scene,
    /// Only with `--long`.
    long: bool,
    /// Plays it; an error is a failure and says what was expected.
    play: fn(&mut Stage) -> Result<()>,
}

/// Every scenario.
const SCENARIOS: &[&[Scenario]] = &[
    tiny::ALL,
    live::ALL,
    wire::ALL,
    linux::ALL,
    console::ALL,
    faults::ALL,
    faults::SWEEP,
    machines::ALL,
    meanwhile::ALL,
    power::ALL,
    versions::ALL,
];

/// How a scenario went.
#[derive(Debug, Serialize)]
struct Verdict {
    name: &'static str,
    passed: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Numbers the scenario measured.
    measured: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Summary {
    passed: usize,
    failed: usize,
    seconds: f64,
    scenarios: Vec<Verdict>,
}

/// Runs the scenarios that `args` names.
///
/// # Errors
/// One of them failed, or there is none.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let chosen = choose(args);
    if args.list {
        for s in &chosen {
            println!("{:<16} {}", s.name, s.about);
        }
        return Ok(());
    }
    ensure!(!chosen.is_empty(), "no scenario of that name; see `cargo xtask e2e --list`");
    setup::run(args.yes, args.parts.qemu.is_some())?;
    let godwit = fleet::build(root, args.release)?;
    setup::become_root(&godwit)?;
    let begun = Instant::now();
    let scenarios = play_all(&godwit, args, &chosen)?;
    let failed = scenarios.iter().filter(|v| !v.passed).count();
    let summary =
        Summary { passed: scenarios.len() - failed, failed, seconds: seconds(begun), scenarios };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    eprintln!("\n{} passed, {failed} failed, {:.0} s", summary.passed, summary.seconds);
    if failed > 0 {
        let names = summary.scenarios.iter().filter(|v| !v.passed).map(|v| v.name);
        bail!("failed: {}", names.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// Scenarios to play, those of one scene after another.
fn choose(args: &Args) -> Vec<&'static Scenario> {
    let mut chosen: Vec<_> = SCENARIOS
        .iter()
        .copied()
        .flatten()
        .filter(|s| match &args.only {
            Some(part) => s.name.contains(part.as_str()),
            None => args.long || !s.long,
        })
        .collect();
    chosen.sort_by_key(|s| s.scene);
    chosen
}

fn play_all(godwit: &Path, args: &Args, chosen: &[&Scenario]) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    let mut lab: Option<(Scene, Fleet)> = None;
    for scenario in chosen {
        proc::alive()?;
        eprintln!("\n-- {}: {}", scenario.name, scenario.about);
        let begun = Instant::now();
        let fleet = match lab.take() {
            Some((scene, fleet)) if scene == scenario.scene => fleet,
            old => {
                if let Some((_, fleet)) = old {
                    fleet.down()?;
                }
                Fleet::up(godwit, &scenario.scene.shape(&args.parts)?)?
            }
        };
        let mut stage = Stage::new(fleet, scenario.scene.mode(), args.long, args.count);
        let result = (scenario.play)(&mut stage).and_then(|()| stage.clear());
        let (fleet, measured) = stage.strike();
        let reason = result.err().map(|e| format!("{e:#}"));
        eprintln!(
            "-- {}: {} in {:.1} s {}",
            scenario.name,
            if reason.is_none() { "passed" } else { "FAILED" },
            seconds(begun),
            serde_json::Value::Object(measured.clone())
        );
        verdicts.push(Verdict {
            name: scenario.name,
            passed: reason.is_none(),
            seconds: seconds(begun),
            reason: reason.clone(),
            measured,
        });
        match reason {
            None => lab = Some((scenario.scene, fleet)),
            Some(reason) => {
                eprintln!("{}\n   {reason}", fleet.logs());
                if args.keep {
                    eprintln!("the lab is still up: GODWIT_LAB={}", fleet.keep().display());
                    break;
                }
                // What a failure leaves behind must not spoil the next scenario.
                fleet.down()?;
            }
        }
    }
    if let Some((_, fleet)) = lab {
        fleet.down()?;
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let mut names: Vec<_> = SCENARIOS.iter().copied().flatten().map(|s| s.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
