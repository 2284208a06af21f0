//! Every refusal of a migration, provoked for real.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::body::{MigrateRequest, StartRequest};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use types::{Bytes, Code, NicSpec, RunState, VmName, VmSpec};

use super::leaks::Snapshot;
use super::provoke::{BALLAST, Ground, text};
use crate::fleet::{self, Fleet, Parts, Shape, seconds};
use crate::proc::{self, Messages, Running};
use crate::setup;

/// What to run and how.
#[derive(Debug, Clone, clap::Parser)]
pub(crate) struct Args {
    /// Only refusals whose name contains this.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    parts: Parts,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
}

impl Args {
    /// As the checks of every change run it.
    pub(crate) fn short() -> Self {
        <Self as clap::Parser>::parse_from(["refusals", "--yes"])
    }
}

/// Longest until the controller knows what was provoked.
const KNOWN: Duration = Duration::from_secs(40);
/// Longest that a refusal may take.
const SHORT: Duration = Duration::from_secs(30);

/// One way to be refused.
struct Row {
    name: &'static str,
    code: Code,
    /// What is asked of `godwit`, without the output's format.
    command: &'static [&'static str],
    provoke: fn(&Ground) -> Result<()>,
    undo: fn(&Ground) -> Result<()>,
}

const TO_B: &[&str] = &["migrate", "web01", "--to", "host-b"];
const NOTHING: fn(&Ground) -> Result<()> = |_| Ok(());
const RESTORE: fn(&Ground) -> Result<()> = |g| g.restore("host-b");

const fn row(name: &'static str, code: Code, provoke: fn(&Ground) -> Result<()>) -> Row {
    Row { name, code, command: TO_B, provoke, undo: RESTORE }
}

impl Row {
    const fn command(self, command: &'static [&'static str]) -> Self {
        Self { command, ..self }
    }

    const fn undo(self, undo: fn(&Ground) -> Result<()>) -> Self {
        Self { undo, ..self }
    }
}

/// In an order in which agents are not started again too often in a row.
const ROWS: &[Row] = &[
    row("same host", Code::SameHost, NOTHING)
        .command(&["migrate", "web01", "--to", "host-a"])
        .undo(NOTHING),
    row("unknown host", Code::HostUnknown, NOTHING)
        .command(&["migrate", "web01", "--to", "host-z"])
        .undo(NOTHING),
    row("unknown VM", Code::VmUnknown, NOTHING).command(&["migrate", "web99"]).undo(NOTHING),
    row("a VM that does not run", Code::VmNotRunning, NOTHING)
        .command(&["migrate", "stopped", "--to", "host-b"])
        .undo(NOTHING),
    row("no huge pages", Code::HugepagesMissing, NOTHING)
        .command(&["vm", "start", "huge", "--on", "host-b"])
        .undo(NOTHING),
    row("cordoned host", Code::HostCordoned, |g| cordon(g, "cordon"))
        .undo(|g| cordon(g, "uncordon")),
    row("no host at all", Code::NoHost, |g| cordon(g, "cordon"))
        .command(&["migrate", "web01"])
        .undo(|g| cordon(g, "uncordon")),
    row("smaller MTU", Code::MtuTooSmall, |g| mtu(g, "1400")).undo(|g| mtu(g, "1500")),
    row("another disk", Code::DiskDiffers, Ground::copy_pool).undo(Ground::unmount_pool),
    row("full memory file system", Code::NotEnoughMemory, |g| {
        let size = format!("{}M", BALLAST.0 >> 20);
        g.inside("host-b", &["fallocate", "-l", &size, text(&g.ballast())])
    })
    .undo(|g| g.inside("host-b", &["rm", text(&g.ballast())])),
    row("memory promised to another VM", Code::NotEnoughMemory, |g| start(g, "large"))
        .undo(|g| stop(g, "large")),
    row("a migration under way", Code::MigrationUnderWay, |g| {
        g.signal("host-b", Signal::STOP)?;
        g.fleet.run(&["migrate", "web01", "--to", "host-b", "--no-wait"]).map(|_| ())
    })
    .undo(|g| {
        g.signal("host-b", Signal::CONT)?;
        g.fleet.run(&["cancel", "web01"]).map(|_| ())
    }),
    row("host down", Code::HostDown, |g| g.signal("host-b", Signal::STOP))
        .undo(|g| g.signal("host-b", Signal::CONT)),
    row("no bridge", Code::BridgeMissing, |g| {
        g.configure("host-b", |config| {
            config.insert("bridges".into(), toml::Value::Array(Vec::new()));
            Ok(())
        })
    }),
    row("no pool", Code::PoolMissing, |g| {
        g.configure("host-b", |config| {
            let pools = config.get_mut("pools").and_then(toml::Value::as_table_mut);
            pools.context("no pools")?.remove("shared");
            Ok(())
        })
    }),
    row("firmware of another size", Code::FirmwareDiffers, Ground::other_firmware),
    row("a CPU feature less", Code::CpuFeatureMissing, |g| {
        g.wrapped("host-b", "exec QEMU \"$@\" -global max-x86_64-cpu.cx16=off")
    }),
    row("machine type unknown there", Code::MachineMissing, |g| {
        let vm: VmName = "web01".parse()?;
        let machine = g.fleet.ask(async |c| c.vm(&vm).await)?.spec.machine;
        g.hide_machine(&machine)
    }),
    row("another accelerator", Code::AccelDiffers, |g| {
        // A machine without KVM can say that it has it only in this way.
        let words = "for a in \"$@\"; do shift; [ \"$a\" = kvm ] && a=tcg; set -- \"$@\" \"$a\"; done\n\
                     exec QEMU \"$@\"";
        g.wrapped("host-b", words)?;
        let file = g.own("qemu-system-wrapped");
        g.configure("host-b", |config| {
            config.insert("qemu".into(), text(&file).into());
            config.insert("accel".into(), "kvm".into());
            Ok(())
        })
    }),
    row("a disk behind a cache", Code::DiskNotDirect, Ground::cached_pool)
        .undo(Ground::uncached_pool),
    row("a device that cannot migrate", Code::DeviceNotMigratable, |g| {
        // Only with a machine is there a bus for it.
        let script = "case \"$*\" in *'-machine none'*|*'-L help'*) exec QEMU \"$@\" ;; esac\n\
                      exec QEMU \"$@\" -device nvme,serial=godwit";
        g.wrapped("host-a", script)?;
        start(g, "odd")
    })
    .command(&["migrate", "odd", "--to", "host-b"])
    .undo(|g| {
        stop(g, "odd")?;
        g.restore("host-a")
    }),
];

/// How a row went.
#[derive(Debug, Serialize)]
struct Verdict {
    name: &'static str,
    code: Code,
    provoked: bool,
    as_specified: bool,
    leaked: Vec<String>,
    seconds: f64,
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    refusals: usize,
    provoked: usize,
    as_specified: usize,
    leaked: usize,
    seconds: f64,
    rows: Vec<Verdict>,
}

/// Provokes all of them in one lab.
///
/// # Errors
/// One was not provoked, not as specified, or left something behind.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let wanted =
        |row: &&Row| args.only.as_ref().is_none_or(|part| row.name.contains(part.as_str()));
    let chosen: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no refusal of that name");
    setup::run(args.yes, args.parts.qemu.is_some())?;
    let godwit = fleet::build(root, false)?;
    setup::become_root(&godwit)?;
    let begun = Instant::now();
    let shape = Shape { memory: Bytes::mib(1 << 10), ..Shape::plain(&args.parts) };
    let ground = Ground::new(Fleet::up(&godwit, &shape)?)?;
    let rows = prepare(&ground)
        .and_then(|()| chosen.iter().map(|row| play(&ground, row)).collect::<Result<Vec<_>>>());
    if rows.as_ref().map_or(true, |rows| rows.iter().any(|v| v.problem.is_some())) {
        eprintln!("{}", ground.fleet.logs());
    }
    ground.fleet.down()?;
    let rows = rows?;
    let count = |good: fn(&Verdict) -> bool| rows.iter().filter(|v| good(v)).count();
    let summary = Summary {
        refusals: rows.len(),
        provoked: count(|v| v.provoked),
        as_specified: count(|v| v.as_specified),
        leaked: count(|v| !v.leaked.is_empty()),
        seconds: seconds(begun),
        rows,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    let Summary { refusals, provoked, as_specified, leaked, .. } = summary;
    eprintln!(
        "{refusals} refusals: {provoked} provoked, {as_specified} as specified, {leaked} leaked, \
         {:.0} s",
        summary.seconds
    );
    if provoked < refusals || as_specified < refusals || leaked > 0 {
        bail!("not every refusal is as it must be");
    }
    Ok(())
}

/// A VM that runs on host-a with a disk and a NIC, and others that do not run.
fn prepare(ground: &Ground) -> Result<()> {
    let bridge = "br0".parse()?;
    let make = |name: &str, memory: Bytes| -> Result<VmSpec> {
        let image = ground.shared().join(lab::specs::tiny_file(name));
        lab::images::tiny(&image, &lab::images::TinyOptions::default())?;
        Ok(lab::specs::tiny(name, memory)?)
    };
    let nic = NicSpec { mac: None, bridge };
    let web01 = VmSpec { nics: vec![nic], ..make("web01", Bytes::mib(64))? };
    let huge = make("huge", Bytes::mib(64))?;
    let huge = VmSpec { memory_pages: types::MemoryPages::Huge, ..huge };
    let others = [make("stopped", Bytes::mib(64))?, make("odd", Bytes::mib(64))?];
    let large = make("large", Bytes::mib(992))?;
    for spec in others.iter().chain([&web01, &huge, &large]) {
        ground.fleet.ask(async |c| c.create_vm(spec).await)?;
    }
    start_on(ground, "web01", "host-a")?;
    // Both agents as each row leaves them.
    ground.restore("host-b")?;
    proceeds(ground)
}

/// Waits until nothing stands against the migration any more.
fn proceeds(ground: &Ground) -> Result<()> {
    until_refused(ground, "web01", Some("host-b"), None)
}

/// Waits until the preflight says so.
fn until_refused(ground: &Ground, vm: &str, to: Option<&str>, code: Option<Code>) -> Result<()> {
    let vm: VmName = vm.parse()?;
    let to = to.map(str::parse).transpose()?;
    let request = MigrateRequest { to, ..MigrateRequest::default() };
    let mut last = None;
    let waited = proc::until("the preflight", KNOWN, || {
        last = ground.fleet.ask(async |c| c.preflight(&vm, &request).await)?.refusal;
        Ok((last.as_ref().map(|problem| problem.code) == code).then_some(()))
    });
    waited.with_context(|| format!("wanted {code:?}; the last was {last:?}"))
}

fn play(ground: &Ground, row: &Row) -> Result<Verdict> {
    proc::alive()?;
    let begun = Instant::now();
    let mut verdict = Verdict {
        name: row.name,
        code: row.code,
        provoked: false,
        as_specified: false,
        leaked: Vec::new(),
        seconds: 0.0,
        sentence: None,
        problem: None,
    };
    let played = provoked(ground, row).and_then(|()| {
        verdict.provoked = true;
        let before = settled(ground)?;
        let refused = refused(ground, row);
        let after = Snapshot::take(&ground.fleet)?;
        verdict.leaked = before.changes(&after);
        verdict.sentence = Some(refused?);
        verdict.as_specified = true;
        Ok(())
    });
    let undone = (row.undo)(ground).and_then(|()| proceeds(ground)).context("undoing it");
    verdict.problem = played.err().map(|e| format!("{e:#}"));
    verdict.seconds = seconds(begun);
    eprintln!(
        "-- {:<30} {:<22} {:>5.1} s  {}",
        row.name,
        row.code.as_str(),
        verdict.seconds,
        match (&verdict.problem, verdict.leaked.as_slice()) {
            (Some(problem), _) => format!("FAILED: {problem}"),
            (None, []) => verdict.sentence.clone().unwrap_or_default(),
            (None, leaked) => format!("LEAKED: {leaked:?}"),
        }
    );
    // What follows cannot be judged on spoilt ground.
    undone?;
    Ok(verdict)
}

fn provoked(ground: &Ground, row: &Row) -> Result<()> {
    (row.provoke)(ground)?;
    match row.command {
        ["migrate", vm, "--to", host] if *host == "host-b" => {
            until_refused(ground, vm, Some(host), Some(row.code))
        }
        ["migrate", vm] if row.code == Code::NoHost => {
            until_refused(ground, vm, None, Some(row.code))
        }
        _ => Ok(()),
    }
}

/// A snapshot that stays the same for a while: what was provoked has come to rest.
fn settled(ground: &Ground) -> Result<Snapshot> {
    let mut last = Snapshot::take(&ground.fleet)?;
    proc::until("a host at rest", KNOWN, || {
        proc::pause(Duration::from_millis(300))?;
        let next = Snapshot::take(&ground.fleet)?;
        let rest = next == last;
        last = next;
        Ok(rest.then_some(()))
    })?;
    Ok(last)
}

/// Wants code, sentence, remedy and exit code, of the command and of its dry run;
/// gives the sentence.
fn refused(ground: &Ground, row: &Row) -> Result<String> {
    let mut args = row.command.to_vec();
    let spoken = ask(ground, &args)?;
    ensure!(spoken.exit == 4, "exit code {} in place of 4: {}", spoken.exit, spoken.stderr);
    let (error, help) = spoken.stderr.split_once("help: ").context("no remedy")?;
    let code = format!("[{}]", row.code.as_str());
    ensure!(error.contains(&code), "no {code} in {error}");
    let sentence = error.trim_start_matches("error: ").trim().trim_end_matches(&code).trim();
    ensure!(sentence.len() > 10 && !help.trim().is_empty(), "{}", spoken.stderr);
    if args[0] == "migrate" {
        args.extend(["-o", "json"]);
        let refusal: Value = serde_json::from_str(&ask(ground, &args)?.stdout)?;
        ensure!(refusal["code"] == row.code.as_str(), "JSON says {refusal}");
        ensure!(refusal["outcome"] == "refused" && refusal["remedy"].is_string(), "{refusal}");
        ensure!(refusal["reason"] == sentence, "{refusal} in place of {sentence}");
        let mut dry = row.command.to_vec();
        dry.push("--dry-run");
        let dry = ask(ground, &dry)?;
        ensure!(dry.exit == 4 && dry.stderr.contains(&code), "dry run: {}", dry.stderr);
    }
    Ok(sentence.to_owned())
}

struct Spoken {
    exit: i32,
    stdout: String,
    stderr: String,
}

fn ask(ground: &Ground, args: &[&str]) -> Result<Spoken> {
    let ended = Running::start(&mut ground.fleet.godwit(args), Messages::Kept)?.wait(SHORT)?;
    let exit = ended.status.code().unwrap_or(-1);
    Ok(Spoken { exit, stdout: ended.stdout, stderr: ended.stderr })
}

fn cordon(ground: &Ground, word: &str) -> Result<()> {
    ground.fleet.run(&["host", word, "host-b"]).map(|_| ())
}

fn mtu(ground: &Ground, bytes: &str) -> Result<()> {
    ground.inside("host-b", &["ip", "link", "set", "dev", "br0", "mtu", bytes])
}

fn start(ground: &Ground, vm: &str) -> Result<()> {
    let host = if vm == "large" { "host-b" } else { "host-a" };
    start_on(ground, vm, host)
}

fn start_on(ground: &Ground, vm: &str, host: &str) -> Result<()> {
    let name: VmName = vm.parse()?;
    let request = StartRequest { on: Some(host.parse()?), ..StartRequest::default() };
    ground.fleet.ask(async |c| c.start(&name, &request).await)?;
    until_state(ground, &name, RunState::Running)
}

fn stop(ground: &Ground, vm: &str) -> Result<()> {
    let name: VmName = vm.parse()?;
    ground.fleet.ask(async |c| c.stop(&name).await)?;
    until_state(ground, &name, RunState::Stopped)
}

fn until_state(ground: &Ground, vm: &VmName, state: RunState) -> Result<()> {
    let mut last = None;
    let waited = proc::until(&format!("{vm} {state}"), KNOWN, || {
        let view = ground.fleet.ask(async |c| c.vm(vm).await)?;
        let there = view.state == Some(state);
        last = Some(view);
        Ok(there.then_some(()))
    });
    waited.with_context(|| format!("last: {last:?}"))
}
