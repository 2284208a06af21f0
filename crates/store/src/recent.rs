//! Which keys changed lately: what a watch is answered from.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Change, MAX_RECENT, Revision, StoreError, Watched};

/// The newest changes of a store. It forgets the oldest ones.
#[derive(Debug)]
pub(crate) struct Recent {
    log: Mutex<Log>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Log {
    /// What changed after this revision is known.
    known_after: Revision,
    changes: VecDeque<(Revision, Vec<Vec<u8>>)>,
    /// Keys in `changes`.
    count: usize,
}

impl Recent {
    /// Of a store that was opened at `revision`; nothing earlier is known.
    pub(crate) fn new(revision: Revision) -> Self {
        let log = Log { known_after: revision, changes: VecDeque::new(), count: 0 };
        Self { log: Mutex::new(log), newest: watch::Sender::new(revision) }
    }

    pub(crate) fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// Takes a transaction's keys. Transactions come in the order of their revisions.
    pub(crate) fn push(&self, revision: Revision, keys: Vec<Vec<u8>>) {
        let mut log = self.log();
        log.count += keys.len();
        log.changes.push_back((revision, keys));
        while log.count > MAX_RECENT || log.changes.len() > MAX_RECENT {
            let Some((oldest, keys)) = log.changes.pop_front() else { break };
            log.count -= keys.len();
            log.known_after = oldest;
        }
        drop(log);
        self.newest.send_replace(revision);
    }

    /// As [`Store::watch`](crate::Store::watch).
    pub(crate) async fn watch(
        &self,
        prefix: Vec<u8>,
        mut after: Revision,
    ) -> Result<Watched, StoreError> {
        let mut newest = self.newest.subscribe();
        loop {
            let revision = *newest.borrow_and_update();
            match self.since(&prefix, after, revision) {
                Watched::Changed { keys, .. } if keys.is_empty() => after = revision,
                watched => return Ok(watched),
            }
            let ended = |_| StoreError::Failed("the store was closed".to_owned());
            newest.changed().await.map_err(ended)?;
        }
    }

    fn since(&self, prefix: &[u8], after: Revision, revision: Revision) -> Watched {
        let log = self.log();
        if after < log.known_after || after > revision {
            return Watched::Compacted { revision };
        }
        let first = log.changes.partition_point(|(changed, _)| *changed <= after);
        let changed = log.changes.range(first..).take_while(|(changed, _)| *changed <= revision);
        let keys: BTreeSet<&Vec<u8>> =
            changed.flat_map(|(_, keys)| keys).filter(|key| key.starts_with(prefix)).collect();
        Watched::Changed { revision, keys: keys.into_iter().cloned().collect() }
    }

    /// Nothing is left half done under the lock that a panic could reveal.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of changes, each once.
pub(crate) fn keys(changes: &[Change]) -> Vec<Vec<u8>> {
    let keys: BTreeSet<&[u8]> = changes.iter().map(Change::key).collect();
    keys.into_iter().map(<[u8]>::to_vec).collect()
}
