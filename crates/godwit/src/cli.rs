//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::output::Format;
use crate::{attempt, audit, ca, cancel, host, lab, migrate, vm};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong use, 4 refused (nothing was done), 5 timed out or \
detached (it goes on), 6 cancelled, 7 conflict, 8 controller unreachable.

Environment: GODWIT_CONTROLLER (https://ADDRESS:PORT), GODWIT_CA, GODWIT_CERT, GODWIT_KEY.";

/// Live migration for QEMU/KVM hosts.
#[derive(Debug, Parser)]
#[command(name = "godwit", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The result on standard output; JSON has bytes, seconds and RFC 3339.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        display_order = 900
    )]
    pub(crate) output: Format,
    /// No progress and no messages on standard error, except errors.
    #[arg(short, long, global = true, display_order = 901)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hosts of the fleet.
    #[command(subcommand)]
    Host(host::Command),
    /// Virtual machines.
    #[command(subcommand)]
    Vm(vm::Command),
    /// Move a running or paused VM to another host.
    Migrate(migrate::Args),
    /// Give up a VM's migration; the VM stays where it is.
    Cancel(cancel::Args),
    /// Migrations, under way or over.
    #[command(subcommand)]
    Attempt(attempt::Command),
    /// What happened, as it is kept durably.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Certificates of the fleet.
    #[command(subcommand)]
    Ca(ca::Command),
    /// A fleet on this machine, to try things out.
    #[command(subcommand)]
    Lab(lab::Command),
    /// Run the fleet's controller until SIGTERM; VMs and migrations live on.
    #[command(after_help = "Example:\n  godwit controller --config /etc/godwit/controller.toml")]
    Controller(Config),
    /// Run a host's agent until SIGTERM; its VMs live on.
    #[command(after_help = "Example:\n  godwit agent --config /etc/godwit/agent.toml")]
    Agent(Config),
    /// Serves one side of a migration; agents start it.
    #[command(hide = true)]
    Carrier,
    /// Keeps a host of a lab.
    #[command(hide = true)]
    LabHost(Config),
    /// Stands between a lab's carriers.
    #[command(hide = true)]
    LabProxy(Config),
}

/// A program's configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// Its file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Calls `visit` with every command that does something.
    fn leaves(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() {
            visit(path.trim(), command);
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            leaves(sub, &path, visit);
        }
    }

    #[test]
    fn every_command_shows_an_example_that_parses() {
        let mut seen = 0;
        leaves(&Cli::command(), "", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> =
                help.lines().filter_map(|line| line.strip_prefix("  godwit ")).collect();
            assert!(!examples.is_empty(), "`{path}` has no example");
            for example in examples {
                let words = std::iter::once("godwit").chain(example.split_whitespace());
                Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{example}: {e}"));
                assert!(format!("godwit {example}").starts_with(path), "{path}: {example}");
            }
            seen += 1;
        });
        assert!(seen > 10, "{seen}");
    }
}
