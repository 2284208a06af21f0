//! `cargo xtask bench planner`: the planner on published instances, beside the
//! best results known. A checker that shares nothing with the planner judges
//! every result.
//!
//! One module a section: it reads the foreign format, asks the planner, checks,
//! and returns what stands under its name in the JSON.

mod balance;
mod cpu;
mod data;
mod machine_reassignment;
mod migration_plans;
mod planetlab;
mod scale;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench planner", version, about)]
struct Args {
    /// Folder of the instances, one sub-folder a section.
    #[arg(long)]
    data: PathBuf,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Only this section (`machine-reassignment`, `scale`, …) or this instance
    /// (`b_1`, …); may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seconds for each instance of machine reassignment, in place of 10 and 300.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Write the resulting assignments and plans into this folder, in the
    /// formats of the instances.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// What was measured; sections that were not asked for are absent.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_reassignment: Option<machine_reassignment::Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migration_plans: Option<migration_plans::Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<balance::Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    planetlab: Option<Vec<planetlab::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<cpu::Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<scale::Section>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.data.is_dir(), "--data {}: there is no such folder", args.data.display());
    if let Some(folder) = &args.write {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // First: it tells the most memory that the process has had.
    let scale = scale::run(&args)?;
    let report = Report {
        machine_reassignment: machine_reassignment::run(&args)?,
        migration_plans: migration_plans::run(&args)?,
        balance: balance::run(&args)?,
        planetlab: planetlab::run(&args)?,
        cpu: cpu::run(&args)?,
        scale,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

impl Args {
    /// Whether anything of the section, whose instances are named, is asked for.
    fn section(&self, section: &str, mut instances: impl Iterator<Item = String>) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|o| o == section)
            || instances.any(|i| self.only.contains(&i))
    }

    /// Whether this instance of the section is asked for.
    fn instance(&self, section: &str, instance: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == section || o == instance)
    }
}
