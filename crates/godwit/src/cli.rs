//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::output::OutputArgs;
use crate::{
    attempt, audit, ca, cancel, complete, control, host, lab, man, migrate, plan, simulate,
    version, vm,
};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong use, 3 done in part (the rest is \
listed), 4 refused (nothing was done), 5 timed out or \
detached (it goes on), 6 cancelled, 7 conflict, 8 controller unreachable.

Environment: GODWIT_CONTROLLER (https://ADDRESS:PORT), GODWIT_CA, GODWIT_CERT, GODWIT_KEY.";

/// Live migration for QEMU/KVM hosts.
#[derive(Debug, Parser)]
#[command(name = "godwit", version = version::TEXT, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
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
    /// Empty hosts: cordon them, move every VM off, wait until they are empty.
    #[command(visible_alias = "evacuate")]
    Drain(plan::Drain),
    /// Bring the VMs that a drain displaced back to their hosts.
    Restore(plan::Restore),
    /// Drain, work upon and restore hosts one after the other.
    Rolling(plan::Rolling),
    /// Spread load evenly, as far as moves are worth it.
    Balance(plan::Balance),
    /// Plans as files, and plans that were applied.
    #[command(subcommand)]
    Plan(plan::Command),
    /// What the planner would do with a fleet that is described in a file.
    Simulate(simulate::Args),
    /// Certificates of the fleet.
    #[command(subcommand)]
    Ca(ca::Command),
    /// A fleet on this machine, to try things out.
    #[command(subcommand)]
    Lab(lab::Command),
    /// Run the fleet's controller until SIGTERM; VMs and migrations live on.
    #[command(after_help = "Example:\n  godwit controller --config /etc/godwit/controller.toml")]
    Controller(control::Args),
    /// Run a host's agent until SIGTERM; its VMs live on.
    #[command(after_help = "Example:\n  godwit agent --config /etc/godwit/agent.toml")]
    Agent(Program),
    /// Print the version, and the commit it was built from.
    #[command(after_help = "Examples:\n  godwit version\n  godwit version -o json")]
    Version,
    /// Print the script that completes commands and names in a shell.
    Completion(complete::Args),
    /// Write the manual pages.
    Man(man::Args),
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

/// A program of the fleet.
#[derive(Debug, clap::Args)]
pub(crate) struct Program {
    /// Its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Only look whether the configuration is good.
    #[arg(long)]
    pub(crate) check: bool,
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

    /// The commands that a page's blocks of console input show.
    fn typed(page: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut inside = false;
        let mut open: Option<String> = None;
        for line in page.lines() {
            if line.starts_with("```") {
                inside = line == "```console";
                continue;
            }
            let begun = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
            let Some(part) = open.take().map(|before| before + line).or(begun.map(Into::into))
            else {
                continue;
            };
            match part.strip_suffix('\\') {
                Some(part) if inside => open = Some(part.to_owned()),
                _ if inside => found.push(part),
                _ => {}
            }
        }
        found
    }

    /// The words of a shell's line, from `godwit` to what ends the command.
    fn words(line: &str) -> Option<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        let mut fresh = true;
        let mut quote = None;
        for c in line.chars() {
            match (c, quote) {
                (c, Some(q)) if c == q => quote = None,
                (c, Some(_)) => words.last_mut()?.push(c),
                (' ', None) => fresh = true,
                ('\'' | '"', None) => {
                    if std::mem::take(&mut fresh) {
                        words.push(String::new());
                    }
                    quote = Some(c);
                }
                (c, None) => {
                    if std::mem::take(&mut fresh) {
                        words.push(String::new());
                    }
                    words.last_mut()?.push(c);
                }
            }
        }
        let from = words.iter().position(|word| word == "godwit")?;
        let ends = |word: &String| ["|", ">", "2>", "#", "&&", ";", "&"].contains(&word.as_str());
        Some(words.into_iter().skip(from).take_while(|word| !ends(word)).collect())
    }

    #[test]
    fn every_command_of_the_documents_parses() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path());
        let mut seen = 0;
        for file in docs.chain([root.join("README.md")]).filter(|f| f.extension().is_some()) {
            let page = std::fs::read_to_string(&file).unwrap();
            for line in typed(&page) {
                let Some(words) = words(&line) else { continue };
                if let Err(error) = Cli::try_parse_from(&words) {
                    let asked = matches!(
                        error.kind(),
                        clap::error::ErrorKind::DisplayHelp
                            | clap::error::ErrorKind::DisplayVersion
                    );
                    assert!(asked, "{}: {line}: {error}", file.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen}");
    }

    #[test]
    fn a_shells_line_is_taken_apart() {
        let page =
            "```console\n$ a | godwit vm \\\n    ls -o 'x y' > z  # no\n# godwit agent\n```\n$ no";
        let lines = typed(page);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(words(&lines[0]).unwrap(), ["godwit", "vm", "ls", "-o", "x y"]);
        assert_eq!(words(&lines[1]).unwrap(), ["godwit", "agent"]);
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
                let words = words(&format!("godwit {example}")).unwrap();
                Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{example}: {e}"));
                assert!(format!("godwit {example}").starts_with(path), "{path}: {example}");
            }
            seen += 1;
        });
        assert!(seen > 10, "{seen}");
    }
}
