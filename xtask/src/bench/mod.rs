//! `cargo xtask bench`: Godwit and QEMU's own ways side by side, with the same guest
//! on the same link, in turn; and the planner on published instances
//! (`bench planner`), a program of its own, so that a release build of it needs
//! nothing else.

mod compare;
mod contestant;
mod cutter;
mod meter;
mod options;
mod plain;
mod results;
mod rig;
mod smoke;
mod tls;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::proc;
use options::Options;
use results::Report;

/// All sections of the planner's bench take about two hours.
const PLANNER_LIMIT: Duration = Duration::from_secs(8 * 60 * 60);

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// A busy guest over a link of 1 Gbit/s.
    Migrate(Options),
    /// The same VM comes back after a minute.
    Return(compare::ReturnOptions),
    /// A guest that rewrites memory faster than the link carries it, a few bytes of each page.
    Hot(Options),
    /// The same as `migrate`, over a link that is as fast as it is.
    Fast(Options),
    /// Every connection is reset and new ones are refused for five seconds: three times
    /// in the copy, once when the VM is stopped.
    Cut(Options),
    /// An idle guest of 256 MiB, moved 300 times: how long it is stopped.
    Blackout(Options),
    /// The others with small guests, to see that they work; the numbers mean nothing.
    Smoke,
    /// The planner on published instances, beside the best results known.
    #[command(disable_help_flag = true)]
    Planner {
        /// What the bench's own `--help` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Measures.
///
/// # Errors
/// The lab breaks, or a guest is lost.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Planner { args } => planner(root, args),
        Bench::Smoke => smoke::run(root),
        moves => measure(root, moves).map(drop),
    }
}

fn measure(root: &Path, bench: &Bench) -> Result<Report> {
    match bench {
        Bench::Migrate(options) => compare::migrate(root, options),
        Bench::Return(options) => compare::homeward(root, options),
        Bench::Hot(options) => compare::hot(root, options),
        Bench::Fast(options) => compare::fast(root, options),
        Bench::Cut(options) => compare::cut(root, options),
        Bench::Blackout(options) => compare::blackout(root, options),
        Bench::Smoke | Bench::Planner { .. } => bail!("this bench is no single one"),
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
