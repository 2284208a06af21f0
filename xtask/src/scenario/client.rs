//! The OpenAPI document before tools that other people wrote: a validator, and a
//! generator whose client then migrates a VM, over mutual TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use types::{Bytes, Outcome};

use crate::fleet::{self, Fleet, Parts, Shape, seconds};
use crate::{proc, setup};

/// What to run and how.
#[derive(Debug, Clone, clap::Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    parts: Parts,
    /// Where the tools are installed; kept from one run to the next.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/godwit-openapi-tools")]
    tools: PathBuf,
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
        <Self as clap::Parser>::parse_from(["client", "--yes"])
    }
}

/// By name and version, from PyPI.
const TOOLS: &[&str] = &["openapi-spec-validator==0.9.0", "openapi-python-client==0.29.1"];
/// For a download and a build of Python packages.
const INSTALL: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Summary {
    /// Names and versions of the tools.
    tools: Vec<String>,
    operations: usize,
    valid: bool,
    /// What the generated client did.
    migrated: bool,
    blackout_seconds: Option<f64>,
    seconds: f64,
}

/// Validates, generates, migrates.
///
/// # Errors
/// A tool cannot be had, finds something wrong, or its client does not get the VM moved.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::run(args.yes, args.parts.qemu.is_some())?;
    setup::python(args.yes)?;
    let godwit = fleet::build(root, false)?;
    setup::become_root(&godwit)?;
    let begun = Instant::now();
    let tools = install(&args.tools)?;
    let shape = Shape { memory: Bytes::mib(1 << 10), ..Shape::plain(&args.parts) };
    let fleet = Fleet::up(&godwit, &shape)?;
    let played = play(root, args, &fleet);
    if played.is_err() {
        eprintln!("{}", fleet.logs());
    }
    fleet.down()?;
    let (operations, report) = played?;
    let summary = Summary {
        tools,
        operations,
        valid: true,
        migrated: report.outcome == Some(Outcome::Completed),
        blackout_seconds: report.blackout_seconds,
        seconds: seconds(begun),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    eprintln!(
        "{operations} operations; with {}: valid, and a client that moved {} to {}; {:.0} s",
        summary.tools.join(" and "),
        report.vm,
        report.to,
        summary.seconds
    );
    if !summary.migrated {
        bail!("the VM was not moved: {report:?}");
    }
    Ok(())
}

/// Names and versions of the tools, which are there then.
fn install(folder: &Path) -> Result<Vec<String>> {
    if !folder.join("bin/pip").exists() {
        proc::output(Command::new("python3").args(["-m", "venv"]).arg(folder), SHORT)?;
    }
    let pip = || Command::new(folder.join("bin/pip"));
    let listed = proc::output(pip().args(["list", "--format", "freeze"]), SHORT)?;
    if !TOOLS.iter().all(|tool| listed.lines().any(|line| line == *tool)) {
        proc::output(pip().args(["install", "--quiet"]).args(TOOLS), INSTALL)
            .context("the tools cannot be had of PyPI")?;
    }
    Ok(TOOLS.iter().map(|tool| (*tool).to_owned()).collect())
}

/// The number of operations, and the report of the migration.
fn play(root: &Path, args: &Args, fleet: &Fleet) -> Result<(usize, types::MigrationReport)> {
    let document = fleet.ask(async |c| c.openapi().await)?;
    let paths = document["paths"].as_object().context("no paths")?;
    let operations = paths.values().filter_map(|p| p.as_object()).map(serde_json::Map::len).sum();
    let file = fleet.dir().join("openapi.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&document)?)?;
    let tool = |name: &str| args.tools.join("bin").join(name);
    proc::output(Command::new(tool("openapi-spec-validator")).arg(&file), SHORT)
        .context("the document is not valid")?;
    let client = fleet.dir().join("godwit_client");
    let mut generate = Command::new(tool("openapi-python-client"));
    generate.arg("generate").arg("--path").arg(&file).arg("--output-path").arg(&client);
    // Warnings would be parts of the contract that it leaves out.
    generate.args(["--meta", "none", "--fail-on-warning"]);
    // It formats what it writes with a tool of its own.
    let path = std::env::var("PATH").unwrap_or_default();
    generate.env("PATH", format!("{}:{path}", args.tools.join("bin").display()));
    proc::output(&mut generate, SHORT).context("no client is generated")?;

    let image = fleet.dir().join("shared").join(lab::specs::tiny_file("web01"));
    lab::images::tiny(&image, &lab::images::TinyOptions::default())?;
    let spec = lab::specs::tiny("web01", Bytes::mib(64))?;
    let wanted = fleet.dir().join("web01.json");
    std::fs::write(&wanted, serde_json::to_vec(&spec)?)?;
    let mut script = Command::new(tool("python"));
    script.arg(root.join("xtask/src/scenario/migrate.py")).arg(&wanted);
    for (name, value) in lab::variables(fleet.dir())? {
        script.env(name, value);
    }
    script.env("PYTHONPATH", fleet.dir());
    let said = proc::output(&mut script, Duration::from_secs(120))?;
    let report: types::MigrationReport =
        serde_json::from_str(&said).with_context(|| format!("no report: {said}"))?;
    ensure!(report.vm.as_str() == "web01" && report.to.as_str() == "host-b", "{report:?}");
    let vm = "web01".parse()?;
    let owner = fleet.ask(async |c| c.vm(&vm).await)?.ownership.context("nobody owns it")?;
    ensure!(owner.owner.as_str() == "host-b", "the record says {}", owner.owner);
    Ok((operations, report))
}
