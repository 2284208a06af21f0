//! The store of one controller: one file, no server.

mod file;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::recent::{self, Recent};
use crate::{
    Answer, Change, Commit, Entry, Range, Revision, Store, StoreError, Transaction, Watched,
};

/// Key to revision (8 bytes, big-endian) and value.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// What the store knows of itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// Newest revision, in `ABOUT`.
const REVISION: &str = "revision";
/// Format of the file, in `ABOUT`.
const FORMAT: &str = "format";
/// The format written here.
const NEWEST_FORMAT: u64 = 1;

/// A store in one file that one process has open.
#[derive(Debug)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    recent: Recent,
    /// Held from a transaction's beginning until it is told, so that revisions
    /// are told in their order. The database takes one writer at a time anyway.
    writer: Mutex<()>,
}

impl EmbeddedStore {
    /// Opens the file, or makes it (mode 0600) where there is none. Reads and
    /// checks all of it.
    ///
    /// # Errors
    /// It is in use, damaged, of a later version, or cannot be opened; whatever
    /// the error, the file stays.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        blocking(move || {
            let (database, revision) = file::open(&path)?;
            let (recent, writer) = (Recent::new(revision), Mutex::default());
            Ok(Self { inner: Arc::new(Inner { database, recent, writer }) })
        })
        .await
    }

    /// Does blocking work that goes on where its future is dropped.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(move || work(&inner)))
    }
}

impl Store for EmbeddedStore {
    fn read(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<Entry>>> {
        self.work(move |inner| {
            let reading = inner.database.begin_read().map_err(failed)?;
            let table = reading.open_table(ENTRIES).map_err(failed)?;
            keys.into_iter()
                .map(|key| match table.get(key.as_slice()).map_err(failed)? {
                    Some(stored) => entry(key, stored.value()).map(Some),
                    None => Ok(None),
                })
                .collect()
        })
    }

    fn range(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        self.work(move |inner| {
            let reading = inner.database.begin_read().map_err(failed)?;
            let table = reading.open_table(ENTRIES).map_err(failed)?;
            let (start, inclusive) = range.start();
            let mut found = Vec::new();
            for item in table.range(start..).map_err(failed)? {
                let (key, stored) = item.map_err(failed)?;
                if !key.value().starts_with(&range.prefix) || found.len() >= range.bound() {
                    break;
                }
                if inclusive || key.value() != start {
                    found.push(entry(key.value().to_vec(), stored.value())?);
                }
            }
            Ok(found)
        })
    }

    fn snapshot(&self) -> Answer<'_, Vec<Entry>> {
        self.work(move |inner| {
            let reading = inner.database.begin_read().map_err(failed)?;
            let table = reading.open_table(ENTRIES).map_err(failed)?;
            let mut found = Vec::new();
            for item in table.range::<&[u8]>(..).map_err(failed)? {
                let (key, stored) = item.map_err(failed)?;
                found.push(entry(key.value().to_vec(), stored.value())?);
            }
            Ok(found)
        })
    }

    fn last(&self, prefix: Vec<u8>) -> Answer<'_, Option<Entry>> {
        self.work(move |inner| {
            let reading = inner.database.begin_read().map_err(failed)?;
            let table = reading.open_table(ENTRIES).map_err(failed)?;
            let mut found = match successor(&prefix) {
                Some(end) => table.range(prefix.as_slice()..end.as_slice()),
                None => table.range(prefix.as_slice()..),
            }
            .map_err(failed)?;
            let Some(item) = found.next_back() else { return Ok(None) };
            let (key, stored) = item.map_err(failed)?;
            entry(key.value().to_vec(), stored.value()).map(Some)
        })
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Commit> {
        self.work(move |inner| {
            transaction.check()?;
            inner.commit(transaction)
        })
    }

    fn newest(&self) -> watch::Receiver<Revision> {
        self.inner.recent.newest()
    }

    fn watch(&self, prefix: Vec<u8>, after: Revision) -> Answer<'_, Watched> {
        Box::pin(self.inner.recent.watch(prefix, after))
    }
}

impl Inner {
    fn commit(&self, transaction: Transaction) -> Result<Commit, StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = recent::keys(&transaction.changes);
        let mut writing = self.database.begin_write().map_err(failed)?;
        writing.set_durability(Durability::Immediate).map_err(failed)?;
        let revision = {
            let mut entries = writing.open_table(ENTRIES).map_err(failed)?;
            for condition in transaction.conditions {
                let stored = entries.get(condition.key.as_slice()).map_err(failed)?;
                let revision = match stored {
                    Some(stored) => Some(split(stored.value())?.0),
                    None => None,
                };
                if revision != condition.revision {
                    // Dropped without a commit: nothing was changed.
                    return Ok(Commit::Conflict { key: condition.key, revision });
                }
            }
            let mut about = writing.open_table(ABOUT).map_err(failed)?;
            let newest = about.get(REVISION).map_err(failed)?.map_or(0, |stored| stored.value());
            let revision = newest + 1;
            about.insert(REVISION, revision).map_err(failed)?;
            for change in transaction.changes {
                match change {
                    Change::Put { key, value } => {
                        let stored = join(revision, &value);
                        entries.insert(key.as_slice(), stored.as_slice()).map_err(failed)?;
                    }
                    Change::Delete { key } => {
                        entries.remove(key.as_slice()).map_err(failed)?;
                    }
                }
            }
            revision
        };
        writing.commit().map_err(failed)?;
        self.recent.push(revision, keys);
        Ok(Commit::Done(revision))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // A panic of the database's ends the request, not the controller.
    spawn_blocking(work).await.map_err(|error| StoreError::Failed(error.to_string()))?
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}

fn join(revision: Revision, value: &[u8]) -> Vec<u8> {
    [&revision.to_be_bytes(), value].concat()
}

fn split(stored: &[u8]) -> Result<(Revision, &[u8]), StoreError> {
    match stored.split_first_chunk() {
        Some((revision, value)) => Ok((Revision::from_be_bytes(*revision), value)),
        None => Err(StoreError::Failed("an entry is shorter than its revision".to_owned())),
    }
}

fn entry(key: Vec<u8>, stored: &[u8]) -> Result<Entry, StoreError> {
    let (revision, value) = split(stored)?;
    Ok(Entry { key, value: value.to_vec(), revision })
}

/// The least key greater than every key with this prefix; `None`: there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}
