//! The `godwit` binary: the fleet's programs, and the commands that people use.

mod attempt;
mod audit;
mod ca;
mod cancel;
mod cli;
mod connect;
mod failure;
mod files;
mod host;
mod log;
mod migrate;
mod output;
mod span;
mod table;
mod vm;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.output, cli.quiet);
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
        Command::Ca(command) => ca::run(command, output),
        user => wait(ask(user, output)),
    }
}

/// The commands that ask the controller.
async fn ask(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Host(command) => host::run(command, output).await,
        Command::Vm(command) => vm::run(command, output).await,
        Command::Migrate(args) => migrate::run(args, output).await,
        Command::Cancel(args) => cancel::run(args, output).await,
        Command::Attempt(command) => attempt::run(command, output).await,
        Command::Audit(command) => audit::run(command, output).await,
        Command::Ca(_) => Ok(()),
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
