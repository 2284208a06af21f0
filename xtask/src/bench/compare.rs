//! The benches: which guest, which link, what happens around each move, and what
//! the report says besides.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use guest::Dirty;
use guest::fill::Mix;
use types::{Bytes, Outage, Rate};

use super::contestant::Contestant;
use super::cutter::Cutter;
use super::options::{Options, Setting};
use super::results::{self, Machine, Measured, Report, Run};
use super::rig::{Manner, Rig};
use crate::fleet::{self, Fleet, Shape};
use crate::setup;

/// Moves of the bench `blackout`.
const MOVES: u32 = 300;

/// Options of `bench return`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReturnOptions {
    #[command(flatten)]
    options: Options,
    /// How long the VM is away, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    away: u32,
    /// The host that it left goes through a reboot meanwhile.
    #[arg(long)]
    reboot: bool,
}

/// One bench, as it is before the user's options.
struct Plan {
    name: &'static str,
    setting: Setting,
    manner: Manner,
    contestants: Vec<Contestant>,
    runs: u32,
    /// Hosts keep the memory of VMs that left.
    retains: bool,
    /// The link is cut in each move; before each of Godwit's there is one without.
    cuts: bool,
}

impl Plan {
    fn usual(name: &'static str) -> Self {
        Self {
            name,
            setting: Setting::usual(),
            manner: Manner::usual(),
            contestants: Contestant::ALL.to_vec(),
            runs: 5,
            retains: false,
            cuts: false,
        }
    }
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn migrate(root: &Path, options: &Options) -> Result<Report> {
    measure(root, options, Plan::usual("migrate"), |_| {})
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn homeward(root: &Path, options: &ReturnOptions) -> Result<Report> {
    let away = Some(Duration::from_secs(options.away.into()));
    let manner = Manner { away, reboot: options.reboot, ..Manner::usual() };
    let plan = Plan { manner, retains: true, ..Plan::usual("return") };
    let (away, reboot) = (options.away, options.reboot);
    measure(root, &options.options, plan, |report| {
        report.more.insert("away_seconds".into(), away.into());
        report.more.insert("reboot".into(), reboot.into());
    })
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn hot(root: &Path, options: &Options) -> Result<Report> {
    let mut plan = Plan::usual("hot");
    let setting = &mut plan.setting;
    let link = options.link.map_or(setting.link_bits_per_second, super::options::Link::rate);
    let mib = |rate: Rate| u32::try_from((rate.0 * 3 / 2 / 8) >> 20).unwrap_or(u32::MAX);
    setting.roles.dirty = Some(Dirty { rate: link.map_or(180, mib), set: 200, percent: 1 });
    setting.limit_seconds = 60;
    setting.blackout_budget_ms = Some(500);
    if let Some(fill) = &mut setting.roles.fill {
        fill.mib = 256;
    }
    measure(root, options, plan, verdicts)
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn fast(root: &Path, options: &Options) -> Result<Report> {
    let mut plan = Plan::usual("fast");
    plan.setting.link_bits_per_second = None;
    measure(root, options, plan, |report| {
        let gib = report.nonzero_bytes as f64 / f64::from(1 << 30);
        let per_gib = |m: &Measured| m.medians.cpu_seconds / gib;
        let all = report.contestants.iter().map(|(c, m)| (c.name().to_owned(), per_gib(m).into()));
        report.more.insert("cpu_seconds_per_gib".into(), serde_json::Value::Object(all.collect()));
    })
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn cut(root: &Path, options: &Options) -> Result<Report> {
    let mut plan = Plan { cuts: true, ..Plan::usual("cut") };
    plan.contestants = vec![Contestant::Godwit, Contestant::Precopy, Contestant::Multifd];
    // What is rewritten, or compresses now more and now less, would hide what was
    // sent twice.
    plan.setting.roles.dirty = None;
    if let Some(fill) = &mut plan.setting.roles.fill {
        fill.mix = Mix { zero: 0, text: 0, heap: 0, random: 100, same: 0 };
    }
    plan.manner.proxied = true;
    measure(root, options, plan, |report| {
        verdicts(report);
        let own = report.contestants.get(&Contestant::Godwit);
        if let (Some(own), Some(calm)) = (own, &report.undisturbed) {
            let more = own.medians.wire_bytes - calm.medians.wire_bytes;
            let cuts = own.runs.iter().filter_map(|r| r.cuts).map(|c| c.copy + c.tail).max();
            let mib = more / f64::from(1 << 20);
            eprintln!("godwit with {} cuts: {mib:.1} MiB more than without", cuts.unwrap_or(0));
            report.more.insert("more_wire_bytes_than_without_cuts".into(), more.into());
        }
    })
}

/// # Errors
/// The lab breaks, or a guest is lost.
pub(super) fn blackout(root: &Path, options: &Options) -> Result<Report> {
    let mut plan = Plan::usual("blackout");
    plan.setting.link_bits_per_second = None;
    plan.setting.memory_bytes = Bytes::mib(256);
    (plan.setting.roles.fill, plan.setting.roles.dirty) = (None, None);
    plan.manner.settle = Duration::from_millis(300);
    plan.contestants = vec![Contestant::Godwit];
    plan.runs = MOVES;
    plan.retains = true;
    measure(root, options, plan, |report| {
        if let Some(own) = report.contestants.get(&Contestant::Godwit) {
            let (p50, p99) = (own.blackout_p50_seconds, own.blackout_p99_seconds);
            let ms = |s: Option<f64>| s.map_or(f64::NAN, |s| s * 1e3);
            eprintln!(
                "\nblackout of {} moves: p50 {:.0} ms, p99 {:.0} ms",
                own.runs.len(),
                ms(p50),
                ms(p99)
            );
            report.more.insert("p50_seconds".into(), p50.into());
            report.more.insert("p99_seconds".into(), p99.into());
        }
    })
}

/// The short answer of Godwit, and of QEMU's pre-copy.
fn verdicts(report: &mut Report) {
    for (name, contestant) in [("godwit", Contestant::Godwit), ("qemu", Contestant::Precopy)] {
        if let Some(measured) = report.contestants.get(&contestant) {
            report.more.insert(name.into(), results::verdict(measured));
        }
    }
}

/// Runs a bench and tells what came out.
fn measure(
    root: &Path,
    options: &Options,
    mut plan: Plan,
    more: impl FnOnce(&mut Report),
) -> Result<Report> {
    plan.setting = plan.setting.with(options)?;
    plan.runs = options.runs.unwrap_or(plan.runs);
    if !options.contestants.is_empty() {
        plan.contestants.clone_from(&options.contestants);
        plan.contestants.sort_unstable();
        plan.contestants.dedup();
    }
    setup::run(options.yes, options.parts.qemu.is_some())?;
    let godwit = fleet::build(root, !options.debug)?;
    setup::become_root(&godwit)?;
    let cutter = plan.cuts.then(Cutter::listen).transpose()?;
    // Both longer than a cut.
    let outage = Outage { tail_seconds: 20, ..Outage::default() };
    let shape = Shape {
        proxy: plan.cuts,
        points: cutter.as_ref().map(|c| c.socket().to_owned()),
        outage: plan.cuts.then_some(outage),
        link: plan.setting.link_bits_per_second,
        retain_seconds: (!plan.retains).then_some(0),
        ..Shape::plain(&options.parts)
    };
    let machine = Machine::look();
    let fleet = Fleet::up(&godwit, &shape)?;
    let played =
        play(&fleet, &plan, cutter.as_ref()).inspect_err(|_| eprintln!("{}", fleet.logs()));
    fleet.down()?;
    let played = played?;
    let (ratios, ratios_to) = results::ratios(&played.contestants);
    let physical = plan.setting.link_bits_per_second;
    let mut report = Report {
        bench: plan.name,
        commit: results::commit(root),
        machine: machine.finish(),
        qemu: played.qemu,
        setting: plan.setting,
        nonzero_bytes: played.nonzero_bytes,
        physical_seconds: physical.map(|r| played.nonzero_bytes as f64 * 8.0 / r.0 as f64),
        contestants: played.contestants,
        undisturbed: played.undisturbed,
        unavailable: played.unavailable,
        ratios,
        ratios_to,
        guests: played.guests,
        more: serde_json::Map::new(),
    };
    results::table(&report);
    more(&mut report);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(report)
}

/// What came out of all moves.
struct Played {
    qemu: String,
    nonzero_bytes: u64,
    contestants: BTreeMap<Contestant, Measured>,
    undisturbed: Option<Measured>,
    unavailable: BTreeMap<Contestant, String>,
    guests: BTreeMap<&'static str, String>,
}

/// Moves the guests, contestant after contestant, round after round.
fn play(fleet: &Fleet, plan: &Plan, cutter: Option<&Cutter>) -> Result<Played> {
    let hosts = fleet.ask(async |c| c.hosts().await)?;
    let qemu = hosts.first().map(|h| h.facts.qemu.clone()).unwrap_or_default();
    let mut rig = Rig::build(fleet, &plan.setting, plan.manner, &plan.contestants)?;
    let nonzero_bytes = rig.nonzero_bytes()?;
    let mut unavailable = BTreeMap::new();
    let mut runs: BTreeMap<Contestant, Vec<Run>> = BTreeMap::new();
    for contestant in &plan.contestants {
        match rig.refusal(*contestant) {
            Some(why) => drop(unavailable.insert(*contestant, why)),
            None => drop(runs.insert(*contestant, Vec::new())),
        }
    }
    let mut undisturbed = Vec::new();
    let present: Vec<Contestant> = runs.keys().copied().collect();
    for round in 0..plan.runs {
        // None is always the first, and none always follows the same one.
        let mut order = present.clone();
        order.rotate_left(round as usize % present.len().max(1));
        if round % 2 == 1 {
            order.reverse();
        }
        for contestant in order {
            if contestant == Contestant::Godwit && cutter.is_some() {
                let run = rig.run(contestant, None)?;
                tell(contestant, &run);
                undisturbed.push(run);
            }
            let run = rig.run(contestant, cutter)?;
            tell(contestant, &run);
            runs.entry(contestant).or_default().push(run);
        }
    }
    let guests = rig.finish()?.into_iter().collect();
    let contestants = runs.into_iter().map(|(c, runs)| (c, Measured::of(runs))).collect();
    let undisturbed = (!undisturbed.is_empty()).then(|| Measured::of(undisturbed));
    Ok(Played { qemu, nonzero_bytes, contestants, undisturbed, unavailable, guests })
}

fn tell(contestant: Contestant, run: &Run) {
    let blackout = run.blackout_seconds.map_or("-".into(), |s| format!("{:.0} ms", s * 1e3));
    eprintln!(
        "{:<13} total {:.2} s, ready {:.2} s, wire {:.1} MiB, blackout {blackout}, CPU {:.2} s, \
         dirtied {:.1} MiB/s{}{}",
        contestant.name(),
        run.total_seconds,
        run.prepare_seconds,
        run.wire_bytes as f64 / 1_048_576.0,
        run.cpu_seconds,
        run.dirtied_bytes_per_second / 1_048_576.0,
        run.cuts.map_or(String::new(), |c| format!(", cut {} + {} times", c.copy, c.tail)),
        run.failure.as_ref().map_or(String::new(), |why| format!(": {why}"))
    );
}
