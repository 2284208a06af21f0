//! The `godwit` binary: the fleet's programs, and the commands that people use.

mod attempt;
mod audit;
mod ca;
mod cancel;
mod cli;
mod colour;
mod complete;
mod connect;
mod control;
mod failure;
mod files;
mod host;
mod interrupt;
mod lab;
mod log;
mod man;
mod migrate;
mod output;
mod plan;
mod program;
mod simulate;
mod span;
mod table;
mod usage;
mod version;
mod vm;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Config};
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error),
    };
    let output = Output::from(&cli.output);
    match run(cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.exit)
        }
    }
}

fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Host(command) => wait(host::run(command, output)),
        Command::Vm(command) => wait(vm::run(command, output)),
        Command::Migrate(args) => wait(migrate::run(args, output)),
        Command::Cancel(args) => wait(cancel::run(args, output)),
        Command::Attempt(command) => wait(attempt::run(command, output)),
        Command::Audit(command) => wait(audit::run(command, output)),
        Command::Drain(args) => wait(plan::drain(args, output)),
        Command::Restore(args) => wait(plan::restore(args, output)),
        Command::Rolling(args) => wait(plan::rolling(args, output)),
        Command::Balance(args) => wait(plan::balance(args, output)),
        Command::Plan(command) => wait(plan::run(command, output)),
        Command::Simulate(args) => simulate::run(args, output),
        Command::Ca(command) => ca::run(command, output),
        Command::Controller(args) => control::run(args, output),
        Command::Agent(program) => program::agent::run(&program),
        Command::Carrier => program::carrier::run(),
        Command::Version => version::run(output),
        Command::Completion(args) => complete::run(&args),
        Command::Man(args) => man::run(&args, output),
        Command::Lab(command) => lab::run(command, output),
        // Namespaces are entered before a thread is started.
        Command::LabHost(Config { config }) => Ok(::lab::host_main(&config)?),
        Command::LabProxy(Config { config }) => Ok(::lab::proxy_main(&config)?),
    }
}

/// Runs a command to its end on this thread.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(1, format!("the program cannot start: {e}")))?;
    runtime.block_on(command)
}
