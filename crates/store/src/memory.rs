//! A store in memory, for tests and as the shortest description of what a store does.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::recent::{self, Recent};
use crate::{Answer, Change, Commit, Entry, Range, Revision, Store, Transaction, Watched};

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<Vec<u8>, (Revision, Vec<u8>)>,
}

/// A store that is gone with its process.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    recent: Recent,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Mutex::default(), recent: Recent::new(0) }
    }
}

impl MemoryStore {
    /// Nothing is left half done under the lock, so a poisoned one is as good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry((key, (revision, value)): (&Vec<u8>, &(Revision, Vec<u8>))) -> Entry {
    Entry { key: key.clone(), value: value.clone(), revision: *revision }
}

impl Store for MemoryStore {
    fn read(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<Entry>>> {
        Box::pin(async move {
            let state = self.state();
            Ok(keys.iter().map(|k| state.entries.get_key_value(k).map(entry)).collect())
        })
    }

    fn range(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        Box::pin(async move {
            let state = self.state();
            let (start, inclusive) = range.start();
            let found = state.entries.range(start.to_vec()..);
            Ok(found
                .filter(|(key, _)| inclusive || key.as_slice() != start)
                .take_while(|(key, _)| key.starts_with(&range.prefix))
                .take(range.bound())
                .map(entry)
                .collect())
        })
    }

    fn snapshot(&self) -> Answer<'_, Vec<Entry>> {
        Box::pin(async move { Ok(self.state().entries.iter().map(entry).collect()) })
    }

    fn last(&self, prefix: Vec<u8>) -> Answer<'_, Option<Entry>> {
        Box::pin(async move {
            let state = self.state();
            let found = state.entries.range(prefix.clone()..);
            Ok(found.take_while(|(key, _)| key.starts_with(&prefix)).last().map(entry))
        })
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Commit> {
        Box::pin(async move {
            transaction.check()?;
            let mut state = self.state();
            for condition in transaction.conditions {
                let revision = state.entries.get(&condition.key).map(|(revision, _)| *revision);
                if revision != condition.revision {
                    return Ok(Commit::Conflict { key: condition.key, revision });
                }
            }
            state.revision += 1;
            let revision = state.revision;
            let keys = recent::keys(&transaction.changes);
            for change in transaction.changes {
                match change {
                    Change::Put { key, value } => {
                        state.entries.insert(key, (revision, value));
                    }
                    Change::Delete { key } => {
                        state.entries.remove(&key);
                    }
                }
            }
            self.recent.push(revision, keys);
            Ok(Commit::Done(revision))
        })
    }

    fn newest(&self) -> watch::Receiver<Revision> {
        self.recent.newest()
    }

    fn watch(&self, prefix: Vec<u8>, after: Revision) -> Answer<'_, Watched> {
        Box::pin(self.recent.watch(prefix, after))
    }
}
