//! The controller's hands: reads records, has them changed, tells who waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api::body::{HistoryEvent, HostFacts, Restored, VmFacts};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Commit, Entry, Range, Revision, Store, StoreError, Transaction};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use types::{AttemptId, AttemptPhase, Code, HostId, Incarnation, Problem, VmId, VmName};

use crate::ControllerError;
use crate::call::Terms;
use crate::core::{Note, Observed};
use crate::idempotency;
use crate::keys;
use crate::records::{Records, Scope, parse, text};
use crate::seen::Seen;
use crate::signer::Signer;

/// How often a change is decided anew because its records had changed meanwhile.
const TRIES: u32 = 16;
/// How long is waited for an owner's newest word.
const MOMENT: Duration = Duration::from_secs(1);
/// Readers of events at the same time.
const MAX_READERS: usize = 64;
/// Format of the records.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) format: u32,
    pub(crate) incarnation: Incarnation,
    /// It was made from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<Restored>,
}

/// The controller; clones are the same one.
#[derive(Clone)]
pub(crate) struct Shell {
    inner: Arc<Inner>,
}

/// A controller that may be gone.
#[derive(Clone)]
pub(crate) struct WeakShell(Weak<Inner>);

impl WeakShell {
    /// The controller, if it is there still.
    pub(crate) fn upgrade(&self) -> Option<Shell> {
        self.0.upgrade().map(|inner| Shell { inner })
    }
}

struct Inner {
    store: Arc<dyn Store>,
    incarnation: Incarnation,
    restored: Option<Restored>,
    /// Revision found at the start: the newest change that may concern anybody.
    began: Revision,
    /// The newest change since then that concerns each host.
    news: watch::Sender<BTreeMap<HostId, Revision>>,
    /// The history's next number; unknown after a failure. Who changes records
    /// holds it, so that changes seldom meet.
    next: AsyncMutex<Option<u64>>,
    seen: Mutex<Seen>,
    /// Some host was heard.
    heard: watch::Sender<()>,
    readers: Arc<Semaphore>,
    signer: Signer,
}

impl Shell {
    /// A controller upon a store.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        signer: Signer,
    ) -> Result<Self, ControllerError> {
        let meta = match store.get(keys::META.into()).await? {
            Some(entry) => serde_json::from_slice::<Meta>(&entry.value)
                .map_err(|e| e.to_string())
                .and_then(|meta| match meta.format {
                    FORMAT => Ok(meta),
                    other => Err(format!("its format is {other}, this version reads {FORMAT}")),
                })
                .map_err(|problem| ControllerError::Record { key: keys::META.into(), problem })?,
            None => begin(&*store).await?,
        };
        let inner = Inner {
            began: *store.newest().borrow(),
            incarnation: meta.incarnation,
            restored: meta.restored,
            news: watch::Sender::default(),
            next: AsyncMutex::default(),
            seen: Mutex::default(),
            heard: watch::Sender::default(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            signer,
            store,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same controller, without keeping it.
    pub(crate) fn downgrade(&self) -> WeakShell {
        WeakShell(Arc::downgrade(&self.inner))
    }

    /// Incarnation of the store.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    /// Whether and when the store was made from a backup.
    pub(crate) fn restored(&self) -> Option<&Restored> {
        self.inner.restored.as_ref()
    }

    /// Every entry, of one moment, and the revision of that moment or an earlier one.
    pub(crate) async fn snapshot(&self) -> Result<(Revision, Vec<Entry>), Problem> {
        let revision = self.revision();
        Ok((revision, self.inner.store.snapshot().await.map_err(unavailable)?))
    }

    /// Keeps durably that there is a host, so that a restored store knows whom to await.
    pub(crate) async fn meet(&self, host: &HostId) -> Result<(), Problem> {
        if self.seen().hosts.contains_key(host) {
            return Ok(());
        }
        let first = jiff::Timestamp::now().to_string();
        let decide = move |known: &mut Option<String>| {
            known.get_or_insert_with(|| first.clone());
            Ok(Vec::new())
        };
        self.alter(Terms::default(), keys::host(host), decide).await
    }

    /// Makes certificates.
    pub(crate) fn signer(&self) -> &Signer {
        &self.inner.signer
    }

    /// What agents said. Never held over an await.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        // Maps are replaced as a whole, so a poisoned lock guards as good ones.
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's newest revision.
    pub(crate) fn revision(&self) -> Revision {
        *self.inner.store.newest().borrow()
    }

    /// The store's newest revision, as a value that changes.
    pub(crate) fn newest(&self) -> watch::Receiver<Revision> {
        self.inner.store.newest()
    }

    /// A place for one more reader of events, if there is one.
    pub(crate) fn place_for_reader(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.readers).try_acquire_owned().ok()
    }

    /// The numbers of the oldest event that is kept and of the newest; 1 and 0 in
    /// an empty history.
    pub(crate) async fn history_reach(&self) -> Result<(u64, u64), Problem> {
        let first = Range { limit: 1, ..Range::prefix(keys::HISTORY) };
        let oldest = self.range(first).await?.first().and_then(|e| keys::tail(&e.key));
        Ok((oldest.unwrap_or(1), self.after_history().await? - 1))
    }

    /// Tells of changes that concern hosts.
    pub(crate) fn news(&self) -> watch::Receiver<BTreeMap<HostId, Revision>> {
        self.inner.news.subscribe()
    }

    /// The newest change that may concern the host.
    pub(crate) fn concerns(&self, news: &BTreeMap<HostId, Revision>, host: &HostId) -> Revision {
        news.get(host).copied().unwrap_or(self.inner.began)
    }

    /// Entries of one moment.
    pub(crate) async fn read(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Entry>>, Problem> {
        self.inner.store.read(keys).await.map_err(unavailable)
    }

    /// Entries of a part of the keys.
    pub(crate) async fn range(&self, range: Range) -> Result<Vec<Entry>, Problem> {
        self.inner.store.range(range).await.map_err(unavailable)
    }

    /// All entries with a prefix, in pages; not of one moment.
    pub(crate) async fn all(&self, prefix: &str) -> Result<Vec<Entry>, Problem> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.key.clone());
            let page = self.range(Range { after, ..Range::prefix(prefix) }).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The records of a scope, of one moment.
    pub(crate) async fn records(&self, scope: &Scope) -> Result<Records, Problem> {
        Records::read(scope, &self.read(scope.keys()).await?)
    }

    /// A host spoke, knowing the revision `since`.
    pub(crate) fn hear(&self, facts: HostFacts, vms: &[VmFacts], since: Revision) {
        // A revision from the future is of another store, and says nothing of this one.
        let knew = if since > self.revision() { 0 } else { since };
        self.seen().hear(facts, vms, knew);
        self.inner.heard.send_replace(());
    }

    /// Waits a moment for the VM's owner to speak of its present records, where it
    /// has spoken of earlier ones and that is not `enough`.
    pub(crate) async fn hear_out(
        &self,
        id: VmId,
        enough: impl Fn(&Records, &Observed) -> bool,
    ) -> Result<(), Problem> {
        let deadline = Instant::now() + MOMENT;
        let mut heard = self.inner.heard.subscribe();
        loop {
            heard.mark_unchanged();
            let records = self.records(&Scope::vm(id)).await?;
            let Some(seen) = self.observed(id, &records) else { return Ok(()) };
            let newest = seen.informed && seen.owning;
            if newest
                || enough(&records, &seen)
                || timeout_at(deadline, heard.changed()).await.is_err()
            {
                return Ok(());
            }
        }
    }

    /// What the VM's owner said of it last.
    pub(crate) fn observed(&self, id: VmId, records: &Records) -> Option<Observed> {
        let owner = &records.own.as_ref()?.owner;
        let seen = self.seen();
        let said = seen.vm(owner, id)?;
        let knew = |revision| said.since >= revision;
        Some(Observed {
            facts: said.facts.clone(),
            informed: knew(records.vm_revision),
            owning: knew(records.own_revision),
        })
    }

    /// Has records changed: reads them, lets `decide` change them, and writes what
    /// became different together with the history, if nobody changed them
    /// meanwhile. It goes on to its end where the caller is gone.
    pub(crate) async fn change<T: Serialize + DeserializeOwned + Send + 'static>(
        &self,
        scope: Scope,
        decide: impl Fn(&mut Records) -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        self.change_on(Terms::default(), scope, decide).await
    }

    /// As [`Self::change`], under terms: a dry run writes nothing, and with a key
    /// the answer is written too.
    pub(crate) async fn change_on<T: Serialize + DeserializeOwned + Send + 'static>(
        &self,
        terms: Terms,
        scope: Scope,
        decide: impl Fn(&mut Records) -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let shell = self.clone();
        let work = tokio::spawn(async move { shell.change_here(&terms, &scope, decide).await });
        work.await.map_err(|e| Problem::new(Code::Internal, format!("a change failed: {e}")))?
    }

    async fn change_here<T: Serialize + DeserializeOwned>(
        &self,
        terms: &Terms,
        scope: &Scope,
        decide: impl Fn(&mut Records) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut next = self.inner.next.lock().await;
        for _ in 0..TRIES {
            if let Some(key) = &terms.key
                && let Some(answer) = idempotency::kept(self, key).await?
            {
                return Ok(answer);
            }
            let keys = scope.keys();
            let entries = self.read(keys.clone()).await?;
            let before = Records::read(scope, &entries)?;
            let mut after = before.clone();
            let answer = decide(&mut after)?;
            if terms.dry_run || (after == before && terms.key.is_none()) {
                return Ok(answer);
            }
            let first = match next.take() {
                Some(first) => first,
                None => self.after_history().await?,
            };
            let mut transaction = Transaction::default();
            for (key, entry) in keys.into_iter().zip(&entries) {
                transaction.expect(key, entry.as_ref());
            }
            after.write(&before, scope, &mut transaction)?;
            if let Some(key) = &terms.key {
                let answer = serde_json::to_value(&answer).map_err(unwritten)?;
                idempotency::keep(self, key, answer, &mut transaction).await?;
            }
            let (vm, attempt) = (after.vm_name(), scope.attempt);
            let following = tell_history(&after.notes, vm, attempt, first, &mut transaction)?;
            let name = after.notes.first().map_or("", |note| note.event.as_str());
            tracing::trace!(target: "point", place = "commit", name, when = "before");
            let done = self.inner.store.commit(transaction).await.map_err(unavailable)?;
            tracing::trace!(target: "point", place = "commit", name, when = "after");
            match done {
                Commit::Done(revision) => {
                    *next = Some(following);
                    self.tell(&before, &after, revision);
                    return Ok(answer);
                }
                Commit::Conflict { .. } => {}
            }
        }
        Err(Problem::new(Code::Conflict, "the record changes too often").remedy("try again"))
    }

    /// Has one record changed that is of no VM, with its lines of history; a dry run
    /// writes nothing, and no answer is kept. It goes on
    /// to its end where the caller is gone.
    pub(crate) async fn alter<T>(
        &self,
        terms: Terms,
        key: Vec<u8>,
        decide: impl Fn(&mut Option<T>) -> Result<Vec<Note>, Problem> + Send + Sync + 'static,
    ) -> Result<(), Problem>
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq + Send + 'static,
    {
        let shell = self.clone();
        let work = tokio::spawn(async move { shell.alter_here(&terms, key, decide).await });
        work.await.map_err(|e| Problem::new(Code::Internal, format!("a change failed: {e}")))?
    }

    async fn alter_here<T>(
        &self,
        terms: &Terms,
        key: Vec<u8>,
        decide: impl Fn(&mut Option<T>) -> Result<Vec<Note>, Problem>,
    ) -> Result<(), Problem>
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq,
    {
        let mut next = self.inner.next.lock().await;
        for _ in 0..TRIES {
            let entry = self.read(vec![key.clone()]).await?.into_iter().next().flatten();
            let before: Option<T> = parse(entry.as_ref())?;
            let mut after = before.clone();
            let notes = decide(&mut after)?;
            if terms.dry_run || (after == before && notes.is_empty()) {
                return Ok(());
            }
            let first = match next.take() {
                Some(first) => first,
                None => self.after_history().await?,
            };
            let mut transaction = Transaction::default();
            transaction.expect(key.clone(), entry.as_ref());
            match &after {
                Some(value) => transaction.put(key.clone(), text(value)?),
                None => transaction.delete(key.clone()),
            }
            let following = tell_history(&notes, None, None, first, &mut transaction)?;
            if let Commit::Done(_) =
                self.inner.store.commit(transaction).await.map_err(unavailable)?
            {
                *next = Some(following);
                return Ok(());
            }
        }
        Err(Problem::new(Code::Conflict, "the record changes too often").remedy("try again"))
    }

    /// The number after the history's last one.
    async fn after_history(&self) -> Result<u64, Problem> {
        let last = self.inner.store.last(keys::HISTORY.into()).await.map_err(unavailable)?;
        Ok(last.and_then(|entry| keys::tail::<u64>(&entry.key)).unwrap_or(0) + 1)
    }

    fn tell(&self, before: &Records, after: &Records, revision: Revision) {
        if let Some(attempt) = &after.attempt
            && attempt.record.phase == AttemptPhase::Done
        {
            self.seen().forget(attempt.record.id);
        }
        let mut hosts = before.hosts();
        hosts.extend(after.hosts());
        self.inner.news.send_modify(|news| {
            for host in hosts {
                news.insert(host, revision);
            }
        });
    }
}

/// Writes the first record of a new store.
async fn begin(store: &dyn Store) -> Result<Meta, ControllerError> {
    let meta = Meta { format: FORMAT, incarnation: Incarnation(1), restored: None };
    let failed = |problem: String| ControllerError::Record { key: keys::META.into(), problem };
    let mut transaction = Transaction::default();
    transaction.expect(keys::META, None);
    transaction.put(keys::META, serde_json::to_vec(&meta).map_err(|e| failed(e.to_string()))?);
    match store.commit(transaction).await? {
        Commit::Done(_) => Ok(meta),
        Commit::Conflict { .. } => Err(failed("another controller made it just now".to_owned())),
    }
}

/// Puts the notes of a change into the history; gives the next number.
fn tell_history(
    notes: &[Note],
    vm: Option<VmName>,
    attempt: Option<AttemptId>,
    first: u64,
    transaction: &mut Transaction,
) -> Result<u64, Problem> {
    let time = jiff::Timestamp::now().to_string();
    let mut seq = first;
    for note in notes {
        let event = HistoryEvent {
            seq,
            time: time.clone(),
            vm: vm.clone(),
            attempt,
            actor: note.actor.clone(),
            event: note.event.clone(),
            detail: note.detail.clone(),
        };
        transaction.expect(keys::history(seq), None);
        transaction.put(keys::history(seq), text(&event)?);
        seq += 1;
    }
    Ok(seq)
}

fn unwritten(error: serde_json::Error) -> Problem {
    Problem::new(Code::Internal, format!("an answer cannot be kept: {error}"))
}

fn unavailable(error: StoreError) -> Problem {
    tracing::error!(%error, "the store failed");
    Problem::new(Code::StoreUnavailable, error.to_string())
        .remedy("see the controller's log and the disk its store is on")
}

/// Reads all entries as one kind of record.
pub(crate) fn parse_all<T: DeserializeOwned>(entries: &[Entry]) -> Result<Vec<T>, Problem> {
    let read = |entry: &Entry| parse(Some(entry)).transpose();
    entries.iter().filter_map(read).collect()
}
