//! What the tasks of one agent share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::body::{HostFacts, VmFacts};
use api::client::Client;
use tokio::sync::Notify;
use types::{AttemptId, HostOffer, VmId};
use vmm::Hypervisor;

use crate::config::AgentConfig;
use crate::console::Consoles;
use crate::incarnation::Newest;
use crate::journal::Journal;

/// The host: its hypervisor, its journal, its line to the controller.
pub(crate) struct Host {
    pub(crate) config: AgentConfig,
    pub(crate) hypervisor: Hypervisor,
    pub(crate) client: Client,
    pub(crate) journal: Journal,
    pub(crate) board: Board,
    pub(crate) offer: Offer,
    pub(crate) consoles: Consoles,
    pub(crate) newest: Newest,
}

impl Host {
    /// Memory to be compared with what was sent, once a VM is stopped. QEMU's
    /// emulator can miss a write between two synchronisations of the dirty log
    /// (seen with 7.2 under load); KVM's log is exact.
    pub(crate) fn recheck(&self, instance: &vmm::InstanceRecord) -> Vec<types::BlockPlacement> {
        match self.hypervisor.facts().accel {
            vmm::Accel::Tcg => instance.blocks(),
            vmm::Accel::Kvm => Vec::new(),
        }
    }

    /// Facts about the host itself.
    pub(crate) fn facts(&self) -> HostFacts {
        let facts = self.hypervisor.facts();
        HostFacts {
            host: self.config.host.clone(),
            address: self.config.address.clone(),
            cpus: facts.cpus,
            memory: facts.memory_total,
            memory_used: facts.memory_used,
            hugepages: facts.hugepages_total,
            hugepages_used: facts.hugepages_used,
            uefi: facts.uefi,
            qemu: facts.version,
            accel: facts.accel.to_string(),
            bridges: [self.config.bridges.as_slice(), &self.config.user_networks].concat(),
            pools: self
                .config
                .pools
                .keys()
                .chain(self.config.device_pools.keys())
                .cloned()
                .collect(),
            lacks: facts.lacks,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            offer: self.offer.read(),
        }
    }
}

/// What the host offers, as it was found last.
#[derive(Default)]
pub(crate) struct Offer(Mutex<Option<HostOffer>>);

impl Offer {
    fn read(&self) -> Option<HostOffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is another one than before, of which others should know soon.
    fn set(&self, offer: HostOffer) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is free changes all the time.
        let same = now.as_ref().is_some_and(|now| {
            HostOffer { memory_available: offer.memory_available, ..now.clone() } == offer
        });
        *now = Some(offer);
        !same
    }
}

/// How often the host is looked at.
const LOOK: Duration = Duration::from_secs(3);

impl Host {
    /// Looks at what the host offers. Storage that hangs keeps only this waiting.
    pub(crate) async fn look(self: &Arc<Self>) {
        let host = self.clone();
        let look = move || host.hypervisor.offer(&host.config.host);
        match tokio::task::spawn_blocking(look).await {
            Ok(offer) => {
                if self.offer.set(offer) {
                    self.board.changed.notify_one();
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look at what this host offers"),
        }
    }

    /// Looks again and again; soon at first, since hosts that start together find each
    /// other's marks only at the second look.
    pub(crate) async fn keep_looking(self: Arc<Self>) {
        let mut pause = Duration::from_millis(100);
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK);
            self.look().await;
        }
    }
}

/// What each VM's task last said of its VM.
#[derive(Default)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<VmId, Entry>>,
    changed: Notify,
}

/// One VM's entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    /// What is seen of it, where something is to be said.
    pub(crate) facts: Option<VmFacts>,
    /// Attempts of which something is left.
    pub(crate) attempts: Vec<AttemptId>,
}

impl Board {
    pub(crate) fn set(&self, vm: VmId, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.get(&vm) != Some(&entry) {
            entries.insert(vm, entry);
            self.changed.notify_one();
        }
    }

    pub(crate) fn read(&self) -> (Vec<VmFacts>, Vec<AttemptId>) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        (
            entries.values().filter_map(|e| e.facts.clone()).collect(),
            entries.values().flat_map(|e| e.attempts.iter().copied()).collect(),
        )
    }

    /// Returns when an entry has changed since the last return.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
