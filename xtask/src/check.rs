//! `cargo xtask test`: everything that has to hold before a change goes in.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{chaos, e2e, proc, scenario, sim, tidy};

/// Formatting, lints, tidy, all tests and, unless `quick`, migrations of real VMs.
///
/// # Errors
/// The first thing that does not hold.
pub(crate) fn run(root: &Path, quick: bool) -> Result<()> {
    step("formatting", || cargo(root, &["fmt", "--all", "--check"]))?;
    step("tidy", || tidy::run(root))?;
    step("lints", || {
        cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    step("tests", || cargo(root, &["test", "--workspace"]))?;
    step("simulated migrations", || sim::run(&sim::Args::short()))?;
    if !quick {
        step("migrations", || e2e::run(root, &e2e::Args::short()))?;
        step("scenarios", || scenario::all(root))?;
        step("chaos", || chaos::run(root, &chaos::Args::short()))?;
    }
    eprintln!("\nAll is well.");
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let begun = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    eprintln!("== {name}: good, {:.0} s", begun.elapsed().as_secs_f64());
    proc::alive()
}

/// Runs cargo in the repository; its output is shown.
///
/// # Errors
/// It fails or takes longer than 40 minutes.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    // What cargo says of this program would have some dependencies built again.
    for (name, _) in std::env::vars_os() {
        let own = name
            .to_str()
            .is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
    proc::run(command.current_dir(root).args(args), Duration::from_secs(40 * 60))
}
