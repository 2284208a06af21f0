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

impl JournalError {
    /// The VM that it is about, which the file's name tells.
    pub(crate) fn vm(&self) -> Option<VmId> {
        let (Self::Io { path, .. } | Self::Unreadable { path, .. }) = self;
        path.file_stem()?.to_str()?.parse().ok()
    }
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
        Some(v) => {
            let problem = format!("version {v}, this agent knows {VERSION}: use the newer agent");
            return Err(unreadable(problem));
        }
        None => return Err(unreadable("it names no version".into())),
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
        let newer = "0190a000-0000-7000-8000-000000000002";
        let file = dir.path().join(format!("journal/{newer}.json"));
        fs::write(&file, br#"{"version": 99}"#).unwrap();
        fs::write(dir.path().join("journal/torn.new"), b"{").unwrap();
        let loaded = journal.load().unwrap();
        assert_eq!(loaded.len(), 2);
        let good: Vec<_> = loaded.iter().flatten().collect();
        assert_eq!(good[0].start_generation, 7);
        let errors: Vec<_> = loaded.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(errors[0].to_string().contains("version 99, this agent knows 1"), "{}", errors[0]);
        assert_eq!(errors[0].vm(), newer.parse().ok());
        assert!(file.exists());
        assert!(!dir.path().join("journal/torn.new").exists());
        journal.remove(vm).unwrap();
        journal.remove(vm).unwrap();
        assert_eq!(journal.load().unwrap().len(), 1);
    }

    /// As agents before the present one wrote it, with what they did not know yet left out.
    fn earlier() -> serde_json::Value {
        let vm = "0190a000-0000-7000-8000-000000000001";
        let attempt = "0190a000-0000-7000-8000-000000000009";
        let spec = serde_json::json!({
            "name": "web01", "memory": 2097152, "machine": "pc-q35-7.2", "uuid": vm,
        });
        let instance = serde_json::json!({
            "vm": vm, "instance": "s1", "spec": spec, "pid": 1, "start_time": 1, "boot_id": "b",
            "run_dir": "/r", "log_dir": "/l", "memory": "/m", "taps": [], "groups": [],
        });
        serde_json::json!({
            "version": 1, "vm": vm, "instance": instance, "start_generation": 3,
            "outgoing": {"attempt": attempt, "to": "host-b", "stage": "handing",
                         "was_paused": false, "seq": 4},
            "incoming": {"attempt": attempt, "stage": "receiving", "instance": instance,
                         "seq": 2, "paused": false, "start_generation": 3},
            "last_outgoing": null, "last_incoming": attempt,
        })
    }

    #[test]
    fn records_of_earlier_agents_are_understood_and_of_later_ones_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let vm: VmId = "0190a000-0000-7000-8000-000000000001".parse().unwrap();
        let load = |record: &serde_json::Value| {
            fs::write(journal.path(vm), record.to_string()).unwrap();
            journal.load().unwrap().remove(0)
        };
        let known = load(&earlier()).unwrap();
        assert_eq!(known.instance.map(|i| i.serial_start), Some(0));
        assert_eq!((known.start_generation, known.past, known.known), (3, None, None));
        // Nothing of what an earlier agent has to go on with is lost.
        let (outgoing, incoming) = (known.outgoing.unwrap(), known.incoming.unwrap());
        assert_eq!(outgoing.stage, handoff::source::Stage::Handing);
        assert_eq!(incoming.stage, handoff::destination::Stage::Receiving);
        let spoils: [fn(&mut serde_json::Value); 4] = [
            |r| r["version"] = 2.into(),
            |r| r["version"] = serde_json::Value::Null,
            |r| r["instance"]["of_tomorrow"] = true.into(),
            |r| r["outgoing"]["stage"] = "of-tomorrow".into(),
        ];
        for spoil in spoils {
            let mut later = earlier();
            spoil(&mut later);
            let error = load(&later).unwrap_err();
            assert_eq!(error.vm(), Some(vm), "{error}");
            assert!(error.to_string().contains("its VM is not touched"), "{error}");
        }
    }
}
