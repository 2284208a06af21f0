//! A small fleet through a day of maintenance: emptied, filled again, rolled over,
//! balanced, with every guest watched.

mod beats;
mod ground;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use types::{Tier, VmName};

use crate::fleet::{self, Parts};
use crate::setup;
use ground::{Ground, tiers_in_order};

/// What to run and how.
#[derive(Debug, Clone, clap::Parser)]
pub(crate) struct Args {
    /// Hosts.
    #[arg(long, default_value_t = 6)]
    hosts: usize,
    /// Tiny guests.
    #[arg(long, default_value_t = 20)]
    tiny: usize,
    /// Linux guests with open connections.
    #[arg(long, default_value_t = 4)]
    linux: u8,
    /// Seconds between the drain and the return.
    #[arg(long, default_value_t = 20)]
    rest: u64,
    #[command(flatten)]
    parts: Parts,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// VMs that do not run in the end.
    lost: usize,
    /// Heartbeats that came twice or went backwards.
    duplicated: usize,
    /// After each return every VM was where it had been.
    restored_exactly: bool,
    /// More important VMs began to move first.
    tiers_in_order: bool,
    /// Connections that broke or brought something else.
    connections_lost: usize,
    /// Bytes of the return for each of the drain.
    restore_bytes_ratio: f64,
    drain_seconds: f64,
    drain_forecast_seconds: f64,
    restore_seconds: f64,
    rolling_moves: usize,
    balance_moves: usize,
}

pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::run(args.yes, args.parts.qemu.is_some())?;
    let godwit = fleet::build(root, false)?;
    setup::become_root(&godwit)?;
    let ground = Ground::up(&godwit, &args.parts, args.hosts, args.tiny, args.linux)?;
    let summary = play(&ground, args)?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => println!("{summary:#?}"),
    }
    let wrong = ground.wrong();
    ground.fleet.down()?;
    ensure!(wrong.is_empty(), "heartbeats: {}", wrong.join("; "));
    ensure!(summary.lost == 0, "{} VMs do not go on", summary.lost);
    ensure!(summary.connections_lost == 0, "{} connections broke", summary.connections_lost);
    ensure!(summary.restored_exactly, "not every VM came back to where it had been");
    ensure!(summary.tiers_in_order, "a less important VM began to move first");
    Ok(())
}

fn play(ground: &Ground, args: &Args) -> Result<Summary> {
    let vms = ground.fleet.ask(async |c| c.vms().await)?;
    let tiers: BTreeMap<VmName, Tier> =
        vms.into_iter().map(|vm| (vm.spec.name, vm.spec.tier)).collect();
    let before = ground.placement()?;
    let mut summary = Summary::default();

    let drained = ground.plan(&["drain", "host-a"], 0)?;
    ensure!(!ground.placement()?.values().any(|host| host == "host-a"), "host-a is not empty");
    summary.drain_seconds = drained.seconds.unwrap_or(f64::INFINITY);
    summary.drain_forecast_seconds = drained.forecast_seconds;
    summary.tiers_in_order = tiers_in_order(&drained, &tiers);
    ground.alive()?;
    std::thread::sleep(Duration::from_secs(args.rest));

    let restored = ground.plan(&["restore", "host-a"], 0)?;
    summary.restore_seconds = restored.seconds.unwrap_or(f64::INFINITY);
    summary.restored_exactly = ground.placement()? == before;
    let (out, back) = (ground.sent(&drained)?, ground.sent(&restored)?);
    summary.restore_bytes_ratio = back as f64 / out.max(1) as f64;
    ground.alive()?;

    let hosts = ground.hosts.join(",");
    let moves = || -> Result<usize> {
        Ok(ground.fleet.ask(async |c| c.plans().await)?.iter().map(|run| run.moves.len()).sum())
    };
    let so_far = moves()?;
    rolling(ground, &hosts)?;
    summary.rolling_moves = moves()? - so_far;
    summary.restored_exactly &= ground.placement()? == before;
    ground.alive()?;

    summary.balance_moves = ground.plan(&["balance"], 0)?.moves.len();
    summary.lost = ground.silent().len();
    summary.duplicated = ground.wrong().len();
    summary.connections_lost = ground.broken();
    Ok(summary)
}

fn rolling(ground: &Ground, hosts: &str) -> Result<()> {
    let mut command =
        ground.fleet.godwit(&["rolling", "--hosts", hosts, "--run", "test -n \"$GODWIT_HOST\""]);
    let running = crate::proc::Running::start(&mut command, crate::proc::Messages::Kept)?;
    let ended = running.wait(fleet::LONG)?;
    ensure!(ended.status.success(), "`godwit rolling`: {}: {}", ended.status, ended.stderr);
    Ok(())
}
