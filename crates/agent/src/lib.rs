//! One per host: finds and supervises QEMUs and carriers, reports facts, and
//! performs its side of every migration.
//!
//! The agent talks only to the controller. VMs do not need it to go on: after a
//! restart it reads its journal, finds the QEMUs again and resumes what was
//! under way. One task owns each VM; what it does next is decided by pure code
//! ([`core`], `handoff`, `converge`) from the journal, QEMU's state and
//! the controller's intent, and is journalled before it is done.

mod carrier_link;
mod check;
mod config;
mod console;
mod converge;
pub mod core;
mod host;
mod incarnation;
mod incoming;
mod journal;
mod note;
mod outgoing;
mod renewal;
mod reporter;
mod state;
mod sync;
mod vm;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::client::{Client, ClientConfig};
use vmm::Hypervisor;

pub use check::check;
pub use config::{AgentConfig, DataPlane};
pub use journal::JournalError;

use crate::host::{Board, Host, Offer};
use crate::incarnation::Newest;
use crate::journal::Journal;

/// For the first look at what the host offers.
const FIRST_LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// QEMU or this host cannot be used.
    #[error(transparent)]
    Hypervisor(#[from] vmm::VmmError),
    /// Certificates or the controller's address are wrong.
    #[error("{0}")]
    Client(#[from] api::client::ConfigError),
    /// What was kept of the controller's incarnation cannot be read.
    #[error("the file `incarnation` of state_dir: {0}")]
    Incarnation(std::io::Error),
    /// The path of this program is unknown, so carriers cannot be started.
    #[error("the path of this program: {0}")]
    Program(std::io::Error),
}

/// Runs the agent until its future is dropped; VMs go on without it.
///
/// # Errors
/// What keeps it from starting. Once it runs, it waits for what is missing.
pub async fn run(config: AgentConfig) -> Result<(), AgentError> {
    let journal = Journal::open(&config.state_dir)?;
    let carrier = std::env::current_exe().map_err(AgentError::Program)?;
    let newest = Newest::open(&config.state_dir).map_err(AgentError::Incarnation)?;
    let hypervisor = Hypervisor::open(config.hypervisor(carrier)).await?;
    // Two lines: a long poll on one never delays a claim on the other.
    let line = || {
        Client::new(ClientConfig {
            controller: config.controller.clone(),
            ca: config.ca.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
        })
    };
    let (client, poll, consoles) = (line()?, line()?, line()?);
    let (mut records, mut sealed) = (Vec::new(), BTreeMap::new());
    for record in journal.load()? {
        match record {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::error!(%error, "ALARM: a VM of this host cannot be managed");
                sealed.extend(error.vm().map(|vm| (vm, error.to_string())));
            }
        }
    }
    tracing::info!(host = %config.host, vms = records.len(), "agent runs");
    for lack in hypervisor.facts().lacks {
        tracing::warn!("{lack}");
    }
    let (board, offer) = (Board::default(), Offer::default());
    let served = console::Consoles::default();
    let host = Arc::new(Host {
        config,
        hypervisor,
        client,
        journal,
        board,
        offer,
        newest,
        consoles: served,
    });
    // What is told first is complete, unless storage hangs.
    let _ = tokio::time::timeout(FIRST_LOOK, host.look()).await;
    let lines = vec![host.client.clone(), poll.clone()];
    // None of them ends.
    tokio::select! {
        () = renewal::run(host.clone(), lines) => {}
        () = sync::run(host.clone(), poll, records, sealed) => {}
        () = host.clone().keep_looking() => {}
        () = console::serve(host, consoles) => {}
    }
    Ok(())
}
