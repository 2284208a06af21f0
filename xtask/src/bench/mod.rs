//! `cargo xtask bench planner`: the planner on published instances; a program of its
//! own, so that a release build of it needs nothing else.
//! `cargo xtask bench migrate`: Godwit and QEMU's own pre-copy side by side, with
//! the same guest on the same link, in turn.

mod qemu;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::witness::BeatWitness;
use serde::Serialize;
use types::{AttemptPhase, Bytes, Rate, RunState, VmName};

use crate::fleet::{self, Fleet, Migration, Order, Parts, Shape};
use crate::guests::{self, Linux};
use crate::{proc, setup};
use qemu::{Plain, Recipe};

/// All sections of the planner's bench take about two hours.
const PLANNER_LIMIT: Duration = Duration::from_secs(8 * 60 * 60);

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Total time and blackout of a migration, beside QEMU's own.
    Migrate(Args),
    /// The planner on published instances, beside the best results known.
    #[command(disable_help_flag = true)]
    Planner {
        /// What the bench's own `--help` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Runs of each side.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Rate of each host's link.
    #[arg(long, default_value = "1gbit")]
    link: Rate,
    /// The guest's memory.
    #[arg(long, default_value = "1GiB")]
    memory: Bytes,
    /// What the guest does besides its heartbeat (`godwit.roles`).
    #[arg(long, default_value = "fill:400,dirty:10:32")]
    roles: String,
    #[command(flatten)]
    parts: Parts,
    /// Use the debug build.
    #[arg(long)]
    debug: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
}

/// The two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Side {
    Godwit,
    Qemu,
}

/// One migration. For both sides the blackout is the longest gap in the guest's
/// heartbeat that a witness outside saw, from the moment on that memory travels;
/// gaps before that, when the emulator begins to log writes, are told apart.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    side: Side,
    /// Godwit: the report's; QEMU: from `migrate` until the destination runs.
    total_seconds: f64,
    blackout_seconds: f64,
    /// The longest gap from the command until memory travels.
    start_gap_seconds: f64,
    /// Godwit: wall time of `godwit migrate`; QEMU: with the start of the
    /// destination's QEMU, which Godwit's total contains.
    wall_seconds: f64,
    /// Godwit: bytes its carrier sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Median {
    total_seconds: f64,
    blackout_seconds: f64,
    wall_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Comparison {
    link_bits_per_second: Rate,
    memory_bytes: Bytes,
    roles: String,
    qemu: String,
    godwit: Median,
    plain_qemu: Median,
    /// Godwit's median over QEMU's.
    ratio: Median,
    runs: Vec<Run>,
}

/// Measures.
///
/// # Errors
/// A migration fails.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Migrate(args) => migrate(root, args),
        Bench::Planner { args } => planner(root, args),
    }
}

fn planner(root: &Path, args: &[OsString]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut bench = Command::new(program);
    bench.args(["run", "--quiet", "--release", "--package", "bench-planner"]);
    bench.arg("--manifest-path").arg(root.join("Cargo.toml")).arg("--").args(args);
    // Its standard output is the JSON; what it tells meanwhile is shown as it comes.
    let ended = proc::Running::start(&mut bench, proc::Messages::Shown)?.wait(PLANNER_LIMIT)?;
    print!("{}", ended.stdout);
    ensure!(ended.status.success(), "the planner's bench failed ({})", ended.status);
    Ok(())
}

fn migrate(root: &Path, args: &Args) -> Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    setup::run(args.yes, args.parts.qemu.is_some())?;
    let godwit = fleet::build(root, !args.debug)?;
    setup::become_root(&godwit)?;
    let shape = Shape { link: Some(args.link), ..Shape::plain(&args.parts) };
    let fleet = Fleet::up(&godwit, &shape)?;
    let compared = compare(&fleet, args).inspect_err(|_| eprintln!("{}", fleet.logs()));
    fleet.down()?;
    let compared = compared?;
    table(&compared);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&compared)?);
    }
    Ok(())
}

/// Both guests, of which only the one that is measured runs.
struct Rig<'a> {
    fleet: &'a Fleet,
    beats: BeatWitness,
    vm: VmName,
    vm_ip: Ipv4Addr,
    recipe: Recipe,
    plain: Option<Plain>,
    plain_ip: Ipv4Addr,
    started: u32,
}

fn compare(fleet: &Fleet, args: &Args) -> Result<Comparison> {
    let mut rig = Rig::build(fleet, args)?;
    let mut runs = Vec::new();
    for round in 0..args.runs {
        // Neither side is always the first.
        let order = [Side::Godwit, Side::Qemu];
        for side in if round % 2 == 0 { order } else { [order[1], order[0]] } {
            let run = rig.run(side)?;
            eprintln!(
                "{:<7} total {:.2} s, blackout {:.0} ms",
                format!("{side:?}"),
                run.total_seconds,
                run.blackout_seconds * 1e3
            );
            runs.push(run);
        }
    }
    let (godwit, plain_qemu) = (median(&runs, Side::Godwit), median(&runs, Side::Qemu));
    let qemu = fleet.ask(async |c| c.hosts().await)?;
    let qemu = qemu.first().map(|h| h.facts.qemu.clone()).unwrap_or_default();
    if let Some(plain) = rig.plain.take() {
        plain.end(fleet)?;
    }
    Ok(Comparison {
        link_bits_per_second: args.link,
        memory_bytes: args.memory,
        roles: args.roles.clone(),
        qemu,
        ratio: Median {
            total_seconds: godwit.total_seconds / plain_qemu.total_seconds,
            blackout_seconds: godwit.blackout_seconds / plain_qemu.blackout_seconds,
            wall_seconds: godwit.wall_seconds / plain_qemu.wall_seconds,
        },
        godwit,
        plain_qemu,
        runs,
    })
}

impl<'a> Rig<'a> {
    fn build(fleet: &'a Fleet, args: &Args) -> Result<Self> {
        let beats = BeatWitness::listen((fleet.plan().outside(), guest::BEAT_PORT).into())?;
        let roles = format!("{},beat:2", args.roles);
        let linux = |name, number| Linux {
            name,
            number,
            memory: args.memory,
            vcpus: 1,
            roles: &roles,
            disks: Vec::new(),
        };
        let (ours, theirs) = (linux("bench", 41), linux("plain", 42));
        let vm: VmName = ours.name.parse()?;
        let spec = guests::spec(fleet, &ours)?;
        let request = api::body::StartRequest { on: Some("host-a".parse()?), ..Default::default() };
        fleet.ask(async |c| c.create_vm(&spec).await)?;
        fleet.ask(async |c| c.start(&vm, &request).await)?;
        let vm_ip = fleet.plan().guest(ours.number);
        guests::wait_boot(vm_ip)?;
        filled(vm_ip)?;
        // The versioned machine type that the first start has written back.
        let machine = fleet.ask(async |c| c.vm(&vm).await)?.spec.machine;
        let accel = fleet.ask(async |c| c.hosts().await)?;
        let accel = accel.first().map(|h| h.facts.accel.clone()).context("no host")?;
        let mut spec = guests::spec(fleet, &theirs)?;
        // The memory block of Godwit's VM, to the byte.
        let memory = fleet.memory_file(&vm, "host-a")?.metadata()?.len();
        let memory = qemu::whole_memory(memory, &machine, &accel);
        spec.machine = machine;
        let recipe = Recipe {
            spec,
            memory,
            qemu: fleet.parts().qemu.clone().unwrap_or_else(|| "qemu-system-x86_64".into()),
            data: fleet.parts().qemu_data.clone(),
            accel,
        };
        let mut rig = Self {
            fleet,
            beats,
            vm,
            vm_ip,
            recipe,
            plain: None,
            plain_ip: fleet.plan().guest(theirs.number),
            started: 0,
        };
        rig.pause_ours()?;
        let plain = rig.plain("host-a", false)?;
        guests::wait_boot(rig.plain_ip)?;
        filled(rig.plain_ip)?;
        plain.stop(fleet)?;
        rig.plain = Some(plain);
        Ok(rig)
    }

    fn plain(&mut self, host: &str, incoming: bool) -> Result<Plain> {
        self.started += 1;
        Plain::start(self.fleet, &self.recipe, host, self.started, incoming)
    }

    fn run(&mut self, side: Side) -> Result<Run> {
        match side {
            Side::Godwit => self.run_godwit(),
            Side::Qemu => self.run_qemu(),
        }
    }

    fn run_godwit(&mut self) -> Result<Run> {
        self.resume_ours()?;
        let ip = self.vm_ip.into();
        self.settle(ip)?;
        let from = self.fleet.ask(async |c| c.vm(&self.vm).await)?.ownership;
        let from = from.context("nobody owns the VM")?.owner;
        let mut migration = self.fleet.begin(&Order::to(self.vm.as_str(), other(from.as_str())))?;
        self.wait_copying(&mut migration)?;
        let start_gap_seconds = self.mark(ip);
        let moved = migration.end()?;
        moved.completed()?;
        let blackout_seconds = self.gap(ip)?;
        self.pause_ours()?;
        Ok(Run {
            side: Side::Godwit,
            total_seconds: moved.report.total_seconds.context("no total in the report")?,
            blackout_seconds,
            start_gap_seconds,
            wall_seconds: moved.took.as_secs_f64(),
            sent_bytes: Some(moved.report.sent_bytes),
        })
    }

    fn run_qemu(&mut self) -> Result<Run> {
        let from = self.plain.take().context("no plain QEMU")?;
        from.cont(self.fleet)?;
        let ip = self.plain_ip.into();
        self.settle(ip)?;
        let begun = std::time::Instant::now();
        let mut to = self.plain(other(from.host()), true)?;
        let mut start_gap_seconds = 0.0;
        let total_seconds =
            from.migrate(self.fleet, &mut to, || start_gap_seconds = self.mark(ip))?;
        let wall_seconds = begun.elapsed().as_secs_f64();
        let blackout_seconds = self.gap(ip)?;
        to.stop(self.fleet)?;
        from.end(self.fleet)?;
        self.plain = Some(to);
        Ok(Run {
            side: Side::Qemu,
            total_seconds,
            blackout_seconds,
            start_gap_seconds,
            wall_seconds,
            sent_bytes: None,
        })
    }

    /// Lets a guest find its rhythm, then begins to watch its heartbeat.
    fn settle(&self, ip: IpAddr) -> Result<()> {
        ensure!(self.beats.wait_for(ip, 200, Duration::from_secs(30)), "no heartbeat of {ip}");
        proc::pause(Duration::from_secs(2))?;
        self.beats.forget_gaps(ip);
        Ok(())
    }

    /// Returns once memory travels.
    fn wait_copying(&self, migration: &mut Migration) -> Result<()> {
        let limit = Duration::from_secs(60);
        proc::until_quickly("the copy phase", limit, || {
            let own = self.fleet.ask(async |c| c.vm(&self.vm).await)?.ownership;
            let Some(id) = own.and_then(|o| o.attempt) else {
                return Ok((!migration.is_running()?).then_some(()));
            };
            let attempt = self.fleet.ask(async |c| c.attempt(id).await)?;
            let travels = attempt.progress.is_some_and(|p| p.done_bytes > 0);
            Ok((travels || attempt.phase > AttemptPhase::Copying).then_some(()))
        })
    }

    /// The longest gap so far; from now on it is measured anew.
    fn mark(&self, ip: IpAddr) -> f64 {
        let gap = self.beats.report(ip).longest_gap.as_secs_f64();
        self.beats.forget_gaps(ip);
        gap
    }

    /// The longest gap since then.
    fn gap(&self, ip: IpAddr) -> Result<f64> {
        ensure!(
            self.beats.wait_for(ip, 200, Duration::from_secs(30)),
            "no heartbeat of {ip} after the migration"
        );
        Ok(self.beats.report(ip).longest_gap.as_secs_f64())
    }

    fn pause_ours(&self) -> Result<()> {
        self.fleet.ask(async |c| c.pause(&self.vm).await)?;
        self.wait(RunState::Paused)
    }

    fn resume_ours(&self) -> Result<()> {
        self.fleet.ask(async |c| c.resume(&self.vm).await)?;
        self.wait(RunState::Running)
    }

    fn wait(&self, state: RunState) -> Result<()> {
        proc::until(&format!("{} {state}", self.vm), Duration::from_secs(30), || {
            let view = self.fleet.ask(async |c| c.vm(&self.vm).await)?;
            Ok((view.state == Some(state)).then_some(()))
        })
    }
}

/// Waits until the guest's memory has the content that its roles put there.
fn filled(ip: Ipv4Addr) -> Result<()> {
    let mut last = None;
    proc::until("the guest's content", Duration::from_secs(300), || {
        let status = guests::control(ip, Duration::from_secs(20))?.status()?;
        let now = status.get("filled_mib").cloned();
        let still = now == last;
        last = now;
        proc::pause(Duration::from_secs(2))?;
        Ok(still.then_some(()))
    })
}

fn other(host: &str) -> &'static str {
    if host == "host-a" { "host-b" } else { "host-a" }
}

fn median(runs: &[Run], side: Side) -> Median {
    let of = |value: fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().filter(|r| r.side == side).map(value).collect();
        all.sort_by(f64::total_cmp);
        middle(&all)
    };
    Median {
        total_seconds: of(|r| r.total_seconds),
        blackout_seconds: of(|r| r.blackout_seconds),
        wall_seconds: of(|r| r.wall_seconds),
    }
}

/// The middle of sorted values; of an even number the mean of the two middle ones.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.get(half) {
        None => f64::NAN,
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => (upper + sorted[half - 1]) / 2.0,
    }
}

fn table(c: &Comparison) {
    eprintln!(
        "\n{} link, {} guest ({}), {}, medians",
        c.link_bits_per_second, c.memory_bytes, c.roles, c.qemu
    );
    eprintln!("{:<12}{:>10}{:>10}{:>8}", "", "godwit", "qemu", "ratio");
    for (name, value) in [
        ("total s", (|m| m.total_seconds) as fn(&Median) -> f64),
        ("blackout s", |m| m.blackout_seconds),
        ("wall s", |m| m.wall_seconds),
    ] {
        let (godwit, qemu, ratio) = (value(&c.godwit), value(&c.plain_qemu), value(&c.ratio));
        eprintln!("{name:<12}{godwit:>10.3}{qemu:>10.3}{ratio:>8.2}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle_and_of_one_side() {
        assert_eq!(middle(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(middle(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert!(middle(&[]).is_nan());
        let run = |side, total_seconds| Run {
            side,
            total_seconds,
            blackout_seconds: total_seconds / 10.0,
            wall_seconds: 0.0,
            start_gap_seconds: 0.0,
            sent_bytes: None,
        };
        let runs = [
            run(Side::Qemu, 50.0),
            run(Side::Godwit, 3.0),
            run(Side::Godwit, 1.0),
            run(Side::Godwit, 2.0),
        ];
        assert_eq!(median(&runs, Side::Godwit).total_seconds, 2.0);
        assert_eq!(median(&runs, Side::Godwit).blackout_seconds, 0.2);
        assert_eq!(median(&runs, Side::Qemu).total_seconds, 50.0);
    }
}
