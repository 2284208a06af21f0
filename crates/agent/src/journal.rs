//! The agent's journal: one durable file per VM, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use types::VmId;

use crate::core::{VERSION, VmRecord};

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("journal {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a record of ours.
    #[error("journal {}: {problem}; it is left as it is, and its VM is not touched", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

pub(crate) struct Journal {
    dir: PathBuf,
}

/// A record is a few KiB.
const LARGEST: u64 = 1 << 20;

impl Journal {
    pub(crate) fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let dir = state_dir.join("journal");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| JournalError::Io { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    fn path(&self, vm: VmId) -> PathBuf {
        self.dir.join(format!("{vm}.json"))
    }

    /// All records. One that cannot be read is an error of its own and hides no other.
    pub(crate) fn load(&self) -> Result<Vec<Result<VmRecord, JournalError>>, JournalError> {
        let io = |source| JournalError::Io { path: self.dir.clone(), source };
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                records.push(read(&path));
            } else if path.extension().is_some_and(|e| e == "new") {
                // Never completed, so never acted on.
                fs::remove_file(&path).map_err(io)?;
            }
        }
        Ok(records)
    }

    /// Durable when it returns.
    pub(crate) fn save(&self, record: &VmRecord) -> Result<(), JournalError> {
        let path = self.path(record.vm);
        self.replace(&path, record).map_err(|source| JournalError::Io { path, source })
    }

    fn replace(&self, path: &Path, record: &VmRecord) -> io::Result<()> {
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec_pretty(record)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&new, path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Forgets a VM of which nothing is left.
    pub(crate) fn remove(&self, vm: VmId) -> Result<(), JournalError> {
        let path = self.path(vm);
        let result = fs::remove_file(&path).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        });
        result
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(|source| JournalError::Io { path, source })
    }
}

fn read(path: &Path) -> Result<VmRecord, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let unreadable = |problem| JournalError::Unreadable { path: path.to_owned(), problem };
    if fs::metadata(path).map_err(io)?.len() > LARGEST {
        return Err(unreadable("larger than any record".into()));
    }
    let bytes = fs::read(path).map_err(io)?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(v) if v == u64::from(VERSION) => {}
        other => return Err(unreadable(format!("version {other:?}, this agent knows {VERSION}"))),
    }
    serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_foreign_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let vm: VmId = "0190a000-0000-7000-8000-000000000001".parse().unwrap();
        let mut record = VmRecord::new(vm);
        record.start_generation = 7;
        journal.save(&record).unwrap();
        fs::write(dir.path().join("journal/newer.json"), br#"{"version": 99}"#).unwrap();
        fs::write(dir.path().join("journal/torn.new"), b"{").unwrap();
        let loaded = journal.load().unwrap();
        assert_eq!(loaded.len(), 2);
        let good: Vec<_> = loaded.iter().flatten().collect();
        assert_eq!(good[0].start_generation, 7);
        assert!(loaded.iter().any(|r| matches!(r, Err(JournalError::Unreadable { .. }))));
        assert!(dir.path().join("journal/newer.json").exists());
        assert!(!dir.path().join("journal/torn.new").exists());
        journal.remove(vm).unwrap();
        journal.remove(vm).unwrap();
        assert_eq!(journal.load().unwrap().len(), 1);
    }
}
