//! The project's tasks: `cargo xtask demo`, `test`, `tidy`, `e2e`, `sim`, `bench`.

mod bench;
mod chaos;
mod check;
mod cpu_models;
mod demo;
mod e2e;
mod fleet;
mod guests;
mod proc;
mod scenario;
mod setup;
mod sim;
mod tail;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Project tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Watch a running Linux machine move between two hosts and back.
    Demo(demo::Args),
    /// Check the rules of the house: who uses whom, sizes, forbidden words.
    Tidy,
    /// Everything that has to hold: formatting, lints, tidy, tests, migrations of real VMs.
    Test {
        /// Leave out the migrations.
        #[arg(long)]
        quick: bool,
    },
    /// Move real VMs between the hosts of a lab, and check what must hold.
    E2e(e2e::Args),
    /// Write the planner's table of CPU models from what a QEMU says of its own.
    CpuModels(cpu_models::Args),
    /// Migrate with a fault at every point, watched by instruments that trust nobody.
    Chaos(chaos::Args),
    /// Play what a user meets in a lab, and check what must hold.
    #[command(subcommand)]
    Scenario(scenario::Scenario),
    /// Move VMs of the cores alone, with faults at every step, by the million.
    Sim(sim::Args),
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Install the tools that the other tasks need (Debian and Ubuntu).
    Setup {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Also get the newer QEMU that tests of two versions need; it is not installed.
        #[arg(long)]
        newer_qemu: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    proc::catch_interrupts()?;
    match task {
        Task::Demo(args) => demo::run(&repository(), &args),
        Task::Tidy => tidy::run(&repository()),
        Task::Test { quick } => check::run(&repository(), quick),
        Task::Bench(bench) => bench::run(&repository(), &bench),
        Task::CpuModels(args) => cpu_models::run(&repository(), &args),
        Task::Chaos(args) => chaos::run(&repository(), &args),
        Task::Scenario(scenario) => scenario::run(&repository(), &scenario),
        Task::E2e(args) => e2e::run(&repository(), &args),
        Task::Sim(args) => sim::run(&args),
        Task::Setup { yes, newer_qemu } => {
            setup::run(yes, false)?;
            if newer_qemu {
                println!("{}", setup::newer_qemu()?.program.display());
            }
            Ok(())
        }
    }
}

/// The repository this was built from.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
