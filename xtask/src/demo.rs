//! `cargo xtask demo`: a running Linux machine moves between two hosts and back
//! while somebody is connected to it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::specs;
use lab::witness::StreamWitness;
use serde::Serialize;
use types::{Bytes, MigrationReport, Rate};

use crate::fleet::{self, Fleet, Order, Parts, Shape, seconds};
use crate::guests::{self, Linux};
use crate::setup;

/// The VM's name.
const VM: &str = "web01";
/// Longest the VM may be silent.
const SOON: Duration = Duration::from_secs(20);

/// How to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Number of hosts, at least 2.
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Rate of each host's link, such as `1gbit`; as fast as it is without.
    #[arg(long)]
    link: Option<Rate>,
    #[command(flatten)]
    parts: Parts,
    /// Leave the lab up at the end.
    #[arg(long)]
    keep: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    migrations: Vec<MigrationReport>,
    state_equal: bool,
    connection_survived: bool,
    bytes_lost: u64,
    #[serde(skip)]
    bytes_received: u64,
    #[serde(skip)]
    longest_silence: Duration,
}

/// Shows it.
///
/// # Errors
/// Something did not work, or was not as it should be.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    ensure!(args.hosts >= 2, "a VM moves between hosts: --hosts must be at least 2");
    setup::run(args.yes, args.parts.qemu.is_some())?;
    let begun = Instant::now();
    let godwit = fleet::build(root, false)?;
    step(begun, "godwit is built");
    setup::become_root(&godwit)?;
    let shape = Shape { hosts: args.hosts, link: args.link, ..Shape::plain(&args.parts) };
    let begun = Instant::now();
    let fleet = Fleet::up(&godwit, &shape)?;
    step(begun, &format!("{} hosts are up, each in a network of its own", args.hosts));
    let shown = match show(&fleet) {
        Ok(shown) => shown,
        Err(e) => {
            eprintln!("\n{}", fleet.logs());
            end(fleet, args.keep)?;
            return Err(e);
        }
    };
    end(fleet, args.keep)?;
    summary(&shown);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    }
    ensure!(shown.connection_survived && shown.bytes_lost == 0, "the connection was harmed");
    ensure!(shown.state_equal, "the two sides' state was not equal");
    Ok(())
}

fn show(fleet: &Fleet) -> Result<Shown> {
    let begun = Instant::now();
    let linux = Linux {
        name: VM,
        number: 5,
        memory: Bytes::mib(384),
        vcpus: 1,
        roles: "serve,beat",
        disks: Vec::new(),
    };
    let spec = guests::spec(fleet, &linux)?;
    let file = fleet.dir().join("web01.toml");
    std::fs::write(&file, specs::to_toml(&spec)?)?;
    fleet.run(&["vm", "create", "-f", &file.to_string_lossy()])?;
    fleet.run(&["vm", "start", VM, "--on", "host-a"])?;
    let ip = fleet.plan().guest(linux.number);
    guests::wait_boot(ip).context("the Linux guest does not answer")?;
    step(begun, &format!("{VM}, a Linux VM on host-a, answers at {ip}"));
    let stream = StreamWitness::connect((ip, guest::SERVE_PORT).into(), SOON)
        .context("nobody can connect to the VM")?;
    ensure!(stream.wait_for(100_000, SOON), "the VM's TCP stream does not flow");
    step(begun, "somebody outside is connected to it");
    let mut migrations = Vec::new();
    for (from, to) in [("host-a", "host-b"), ("host-b", "host-a")] {
        eprintln!("\n$ godwit migrate {VM} --to {to} --verify");
        let moved = fleet.migrate(&Order { verify: true, show: true, ..Order::to(VM, to) })?;
        let report = moved.report;
        eprintln!(
            "  {from} -> {to} in {:.1} s, paused for {:.0} ms, {} sent of {}",
            report.total_seconds.unwrap_or_default(),
            report.blackout_seconds.unwrap_or_default() * 1e3,
            Bytes(report.sent_bytes),
            Bytes(report.memory_bytes)
        );
        migrations.push(report);
        ensure!(stream.wait_for(100_000, SOON), "the TCP stream stands still: {}", ended(&stream));
    }
    let seen = stream.finish();
    Ok(Shown {
        state_equal: migrations.iter().all(|m| m.state_equal == Some(true)),
        migrations,
        connection_survived: seen.ended.is_none(),
        bytes_lost: seen.lost_bytes + 8 * seen.wrong,
        bytes_received: seen.bytes,
        longest_silence: seen.longest_gap,
    })
}

fn ended(stream: &StreamWitness) -> String {
    stream.report().ended.unwrap_or_else(|| "the connection is open".to_owned())
}

/// Takes the lab down, or leaves it and says where it is.
fn end(fleet: Fleet, keep: bool) -> Result<()> {
    if !keep {
        return fleet.down();
    }
    let dir = fleet.keep();
    eprintln!("\nThe lab is still up. Look around, and end it:");
    eprintln!("  export GODWIT_LAB={}", dir.display());
    eprintln!("  eval \"$(target/debug/godwit lab env)\"; target/debug/godwit vm ls");
    eprintln!("  target/debug/godwit lab down");
    Ok(())
}

fn summary(shown: &Shown) {
    let yes = |good: bool| if good { "yes" } else { "NO" };
    eprintln!("\nMoved          {} times while it ran", shown.migrations.len());
    let paused: Vec<_> = shown
        .migrations
        .iter()
        .map(|m| format!("{:.0} ms", m.blackout_seconds.unwrap_or_default() * 1e3))
        .collect();
    eprintln!("Paused for     {} (comparing both sides included)", paused.join(", "));
    eprintln!("State equal    {} (memory digest and registers)", yes(shown.state_equal));
    eprintln!("Connection     {}", if shown.connection_survived { "alive" } else { "BROKEN" });
    eprintln!(
        "Bytes lost     {} of {}, longest silence {:.0} ms",
        shown.bytes_lost,
        shown.bytes_received,
        shown.longest_silence.as_secs_f64() * 1e3
    );
}

fn step(begun: Instant, what: &str) {
    eprintln!("{:>6.1} s  {what}", seconds(begun));
}
