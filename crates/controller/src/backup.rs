//! The store as a whole: told, and made again from what was told.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use api::backup;
use api::body::{Backup, BackupEntry, Restored};
use store::{Commit, EmbeddedStore, Store, StoreError, Transaction};
use types::{Code, Incarnation, Problem};

use crate::keys;
use crate::shell::{Meta, Shell};

/// Records written in one transaction.
const BATCH: usize = 100;

/// Why a store was not restored; the one that was there, if any, stands as before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not one.
    #[error("the backup cannot be used: {0}")]
    Backup(String),
    /// A store stands there.
    #[error("there is a store already: {}", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Records.
    pub records: usize,
    /// Where the store is now that stood there.
    pub aside: Option<PathBuf>,
}

/// Everything in the store, of one moment.
pub(crate) async fn take(shell: &Shell) -> Result<Backup, Problem> {
    let internal = |e: &dyn std::fmt::Display| Problem::new(Code::Internal, e.to_string());
    let (revision, all) = shell.snapshot().await?;
    let mut entries = Vec::with_capacity(all.len());
    for entry in all {
        let key = String::from_utf8(entry.key).map_err(|e| internal(&e))?;
        let (value, bytes) = match serde_json::from_slice(&entry.value) {
            Ok(value) => (value, None),
            Err(_) => (serde_json::Value::Null, Some(hex(&entry.value))),
        };
        entries.push(BackupEntry { key, value, bytes });
    }
    Ok(Backup {
        format: backup::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken: jiff::Timestamp::now().to_string(),
        revision,
        digest: backup::digest(&entries).map_err(|e| internal(&e))?,
        entries,
    })
}

/// Makes the store's file from a backup, of an incarnation that no host has seen. One
/// that stands there is refused, or with `replace` put aside.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(path: &Path, backup: &Backup, replace: bool) -> Result<Summary, RestoreError> {
    backup::check(backup).map_err(RestoreError::Backup)?;
    if path.exists() && !replace {
        return Err(RestoreError::Exists(path.to_owned()));
    }
    let now = jiff::Timestamp::now();
    let meta = meta(backup, now)?;
    let new = path.with_extension("restoring");
    remove(&new)?;
    if path.exists() {
        // One that is in use is not put aside.
        drop(EmbeddedStore::open(path).await?);
    }
    let store = EmbeddedStore::open(&new).await?;
    fill(&store, backup, &meta).await?;
    drop(store);
    let aside = path.exists().then(|| path.with_extension(format!("before-{}", now.as_second())));
    if let Some(aside) = &aside {
        fs::rename(path, aside).map_err(at(path))?;
    }
    fs::rename(&new, path).map_err(at(&new))?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(at(directory))?;
    Ok(Summary { incarnation: meta.incarnation, records: backup.entries.len(), aside })
}

fn meta(backup: &Backup, now: jiff::Timestamp) -> Result<Meta, RestoreError> {
    let entry = backup.entries.iter().find(|entry| entry.key == keys::META);
    let entry = entry.ok_or_else(|| RestoreError::Backup(format!("{} is missing", keys::META)))?;
    let old: Meta = serde_json::from_value(entry.value.clone())
        .map_err(|e| RestoreError::Backup(format!("{}: {e}", keys::META)))?;
    // The clock, because the same backup may be restored twice.
    let clock = u64::try_from(now.as_second()).unwrap_or(0);
    Ok(Meta {
        incarnation: Incarnation(old.incarnation.0.saturating_add(1).max(clock)),
        restored: Some(Restored { at: now.to_string(), taken: backup.taken.clone() }),
        ..old
    })
}

async fn fill(store: &EmbeddedStore, backup: &Backup, meta: &Meta) -> Result<(), RestoreError> {
    let text = |value: &serde_json::Value| {
        serde_json::to_vec(value).map_err(|e| RestoreError::Backup(e.to_string()))
    };
    for batch in backup.entries.chunks(BATCH) {
        let mut transaction = Transaction::default();
        for entry in batch {
            let value = match entry.key.as_str() {
                keys::META => {
                    serde_json::to_vec(meta).map_err(|e| RestoreError::Backup(e.to_string()))?
                }
                _ => match &entry.bytes {
                    Some(bytes) => unhex(bytes)?,
                    None => text(&entry.value)?,
                },
            };
            transaction.put(entry.key.as_bytes(), value);
        }
        if let Commit::Conflict { .. } = store.commit(transaction).await? {
            return Err(RestoreError::Backup("a new store is not empty".to_owned()));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, RestoreError> {
    let wrong = || RestoreError::Backup("a record's bytes are not hexadecimal".to_owned());
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                Ok(digit(*high).ok_or_else(wrong)? << 4 | digit(*low).ok_or_else(wrong)?)
            }
            _ => Err(wrong()),
        })
        .collect()
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_hexadecimal() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)).unwrap(), all);
        assert_eq!(unhex("").unwrap(), Vec::<u8>::new());
        for wrong in ["0", "0g", "é"] {
            assert!(unhex(wrong).is_err(), "{wrong}");
        }
    }
}
