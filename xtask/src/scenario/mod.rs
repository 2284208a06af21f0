//! `cargo xtask scenario`: what a user meets, played for real.

mod client;
mod filter;
mod fleet;
mod guide;
mod leaks;
mod machine;
mod markdown;
mod provoke;
mod refusals;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

/// A scenario.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Every refusal of a migration: its code, sentence, remedy and exit code, and
    /// that nothing was touched on either host.
    Refusals(refusals::Args),
    /// The OpenAPI document before other people's tools: a validator, and a client
    /// made by a generator that migrates a VM.
    Client(client::Args),
    /// A small fleet drained, restored, rolled over and balanced, with every guest
    /// watched.
    Fleet(fleet::Args),
    /// The guides, word by word, on two machines with nothing prepared.
    Guide(guide::Args),
    /// Stands between an agent and a QEMU that is asked what it can.
    #[command(hide = true)]
    QmpFilter(filter::Args),
}

/// Plays one.
///
/// # Errors
/// Something was not as it must be.
pub(crate) fn run(root: &Path, scenario: &Scenario) -> Result<()> {
    match scenario {
        Scenario::Refusals(args) => refusals::run(root, args),
        Scenario::Client(args) => client::run(root, args),
        Scenario::Fleet(args) => fleet::run(root, args),
        Scenario::Guide(args) => guide::run(root, args),
        Scenario::QmpFilter(args) => filter::run(args),
    }
}

/// All of them, as the checks of every change run them.
///
/// # Errors
/// Something was not as it must be.
pub(crate) fn all(root: &Path) -> Result<()> {
    refusals::run(root, &refusals::Args::short())?;
    client::run(root, &client::Args::short())?;
    guide::run(root, &guide::Args::short())
}
