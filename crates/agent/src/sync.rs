//! The conversation with the controller: facts go up, the whole intent comes down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::body::{AttemptIntent, Elsewhere, SyncReply, SyncRequest, VmFacts, VmIntent};
use api::client::Client;
use tokio::sync::watch;
use types::{AttemptId, RunState, VmId};

use crate::core::VmRecord;
use crate::host::{Entry, Host};
use crate::vm;

/// What the controller last said about one VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    /// The controller has been heard since the agent started.
    pub(crate) heard: bool,
    /// The VM, if this host owns it.
    pub(crate) intent: Option<VmIntent>,
    /// Whose it is, if it is certainly another host's.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// Attempts of it that concern this host.
    pub(crate) attempts: Vec<AttemptIntent>,
    /// Attempts of the journal that the store does not know.
    pub(crate) unknown: Vec<AttemptId>,
}

/// How long the controller may hold a poll.
const POLL: Duration = Duration::from_secs(8);

/// Starts a task for every VM of the journal, then talks to the controller for ever.
///
/// `sealed` are VMs whose record cannot be read: they may run here, and nothing is
/// done about them.
pub(crate) async fn run(
    host: Arc<Host>,
    poll: Client,
    records: Vec<VmRecord>,
    sealed: BTreeMap<VmId, String>,
) {
    for (vm, why) in &sealed {
        host.board.set(*vm, sealed_entry(*vm, why));
    }
    let sealed = sealed.into_keys().collect();
    let mut tasks = Tasks { host: host.clone(), views: BTreeMap::new(), sealed };
    let mut adopted = Vec::new();
    for record in records {
        adopted.push(tasks.spawn(record));
    }
    // Facts must be complete before they are told: what is not mentioned is not here.
    for ready in adopted {
        let _ = tokio::time::timeout(Duration::from_secs(30), ready).await;
    }
    let mut since = 0;
    let mut pause = Duration::from_millis(50);
    loop {
        let long = exchange(&host, &poll, since, if since == 0 { Duration::ZERO } else { POLL });
        let result = tokio::select! {
            result = long => result,
            () = host.board.changed() => exchange(&host, &poll, since, Duration::ZERO).await,
        };
        match result {
            Ok(reply) => {
                if let Err(error) = host.newest.take(reply.incarnation) {
                    tracing::error!("{error}");
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                since = reply.revision;
                pause = Duration::from_millis(50);
                tasks.apply(reply);
            }
            Err(error) => {
                tracing::warn!(%error, "controller not reached; VMs go on as they are");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
                since = 0;
            }
        }
    }
}

async fn exchange(
    host: &Host,
    client: &Client,
    since: u64,
    wait: Duration,
) -> Result<SyncReply, api::client::ClientError> {
    let (vms, attempts) = host.board.read();
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let incarnation = Some(host.newest.known()).filter(|known| known.0 > 0);
    let request = SyncRequest { host: host.facts(), vms, attempts, since, incarnation, wait_ms };
    client.sync(&request).await
}

/// One task per VM; it alone acts on the VM.
struct Tasks {
    host: Arc<Host>,
    views: BTreeMap<VmId, watch::Sender<View>>,
    sealed: BTreeSet<VmId>,
}

/// What is told of a VM whose record cannot be read. Whether it runs nobody knows, so
/// nobody may take it to be stopped; nor may a restored store take it in.
fn sealed_entry(vm: VmId, why: &str) -> Entry {
    let facts = VmFacts {
        vm,
        state: RunState::Running,
        start_generation: 0,
        machine: None,
        halted: None,
        ended: None,
        error: Some(why.to_owned()),
        blockers: Vec::new(),
        ownership: None,
        spec: None,
        moving: true,
    };
    Entry { facts: Some(facts), attempts: Vec::new() }
}

impl Tasks {
    fn spawn(&mut self, record: VmRecord) -> tokio::sync::oneshot::Receiver<()> {
        let (sender, view) = watch::channel(View::default());
        self.views.insert(record.vm, sender);
        let (adopted, ready) = tokio::sync::oneshot::channel();
        tokio::spawn(vm::run(self.host.clone(), record, view, adopted));
        ready
    }

    fn apply(&mut self, reply: SyncReply) {
        let mut views: BTreeMap<VmId, View> = BTreeMap::new();
        for vm in self.views.keys() {
            views.insert(*vm, View { unknown: reply.unknown_attempts.clone(), ..View::default() });
        }
        for intent in reply.vms {
            if let Some(vm) = intent.spec.uuid {
                views.entry(vm).or_default().intent = Some(intent);
            }
        }
        for elsewhere in reply.elsewhere {
            let vm = elsewhere.vm;
            views.entry(vm).or_default().elsewhere = Some(elsewhere);
        }
        for attempt in reply.attempts {
            views.entry(attempt.record.vm).or_default().attempts.push(attempt);
        }
        for (vm, mut view) in views {
            view.heard = true;
            if self.sealed.contains(&vm) {
                continue;
            }
            if !self.views.contains_key(&vm) {
                self.spawn(VmRecord::new(vm));
            }
            let Some(sender) = self.views.get(&vm) else { continue };
            sender.send_if_modified(|old| {
                let new = *old != view;
                *old = view;
                new
            });
        }
    }
}
