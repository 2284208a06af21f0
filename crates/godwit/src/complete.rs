//! `godwit completion`: what a shell offers while one types. The script asks this
//! program, which asks the controller for names, where it can be reached.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use crate::cli::Cli;
use crate::connect;
use crate::failure::{FAILED, Failure};
use crate::output::print;

/// Says to the program that a shell asks.
const VARIABLE: &str = "COMPLETE";
/// Nobody waits longer for names while typing.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  godwit completion bash\n  godwit completion zsh\n  godwit completion fish\n\n\
                  In ~/.bashrc: source <(godwit completion bash)"
)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Answers a shell that asks what could follow, and ends the program then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Prints the script for a shell.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "godwit", "godwit", "godwit", &mut script)
        .map_err(|e| Failure::new(FAILED, e.to_string()))?;
    print(&String::from_utf8_lossy(&script))
}

/// Completes names of VMs.
pub(crate) fn vms() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |client: api::Client| {
            let vms = client.vms().await.ok()?;
            Some(vms.into_iter().map(|vm| vm.spec.name.to_string().into()).collect())
        })
    })
}

/// Completes names of hosts.
pub(crate) fn hosts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |client: api::Client| {
            let hosts = client.hosts().await.ok()?;
            Some(hosts.into_iter().map(|host| host.facts.host.to_string().into()).collect())
        })
    })
}

/// What the controller says in time, else nothing.
fn names(ask: impl AsyncFnOnce(api::Client) -> Option<Vec<OsString>>) -> Vec<CompletionCandidate> {
    let found = || {
        let client = connect::from_environment()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(client)).await.ok()? })
    };
    found().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
