//! What agents say, kept in memory only: facts, and how copies go.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use api::body::{HostFacts, VmFacts};
use types::{AttemptId, HostId, Progress, RunState, VmId};

/// A host that was heard within this time is up.
const UP: Duration = Duration::from_secs(10);

/// What a host said, and when.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) facts: HostFacts,
    pub(crate) heard: Instant,
}

impl Host {
    pub(crate) fn up(&self) -> bool {
        self.heard.elapsed() < UP
    }
}

/// What a host said of a VM, and the newest revision it knew then.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) facts: VmFacts,
    pub(crate) since: u64,
}

/// All that was said.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) hosts: BTreeMap<HostId, Host>,
    vms: HashMap<HostId, HashMap<VmId, Said>>,
    progress: HashMap<AttemptId, Progress>,
}

impl Seen {
    /// Replaces all that a host said before.
    pub(crate) fn hear(&mut self, facts: HostFacts, vms: &[VmFacts], since: u64) {
        let said = |facts: &VmFacts| (facts.vm, Said { facts: facts.clone(), since });
        self.vms.insert(facts.host.clone(), vms.iter().map(said).collect());
        self.hosts.insert(facts.host.clone(), Host { facts, heard: Instant::now() });
    }

    /// What a host said of a VM.
    pub(crate) fn vm(&self, host: &HostId, vm: VmId) -> Option<&Said> {
        self.vms.get(host)?.get(&vm)
    }

    /// Some host says that it has the VM.
    pub(crate) fn anywhere(&self, vm: VmId) -> bool {
        let has = |said: &Said| said.facts.moving || said.facts.state != RunState::Stopped;
        self.vms.values().any(|vms| vms.get(&vm).is_some_and(has))
    }

    /// Takes a newer observation; one that lags behind is dropped.
    pub(crate) fn advance(&mut self, attempt: AttemptId, progress: Progress) {
        let newest = self.progress.entry(attempt).or_default();
        if progress.done_bytes >= newest.done_bytes {
            *newest = progress;
        }
    }

    pub(crate) fn progress(&self, attempt: AttemptId) -> Option<Progress> {
        self.progress.get(&attempt).cloned()
    }

    /// Forgets how an attempt went.
    pub(crate) fn forget(&mut self, attempt: AttemptId) {
        self.progress.remove(&attempt);
    }
}
