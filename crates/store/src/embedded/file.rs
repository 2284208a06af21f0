//! The file of an embedded store: made as a whole, opened only when it is sound.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, StorageError};

use super::{ABOUT, ENTRIES, FORMAT, NEWEST_FORMAT, REVISION, failed};
use crate::{Revision, StoreError};

/// Memory for pages of the file, in bytes.
const CACHE: usize = 32 << 20;

/// The database of the file, which is made where there is none, and its newest
/// revision.
pub(super) fn open(path: &Path) -> Result<(Database, Revision), StoreError> {
    let unopened = |source| StoreError::Open { path: path.to_owned(), source };
    if !path.try_exists().map_err(unopened)? {
        make(path)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(unopened)?;
    if file.metadata().map_err(unopened)?.len() == 0 {
        // A store is never empty: to begin anew in it would forget every owner.
        return Err(damaged(path, "the file is empty"));
    }
    let database = database(path, file)?;
    let revision = read_about(path, &database)?;
    Ok((database, revision))
}

/// Makes an empty store beside the path and links it there, so that a crash
/// leaves a whole store or none.
fn make(path: &Path) -> Result<(), StoreError> {
    let unopened = |source| StoreError::Open { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Random, so that two who make the same store at once do not meet in it.
    name.push(format!(".new-{:016x}", RandomState::new().hash_one(0)));
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(unopened)?;
    let database = database(path, file)?;
    let mut writing = database.begin_write().map_err(failed)?;
    writing.set_durability(Durability::Immediate).map_err(failed)?;
    {
        writing.open_table(ENTRIES).map_err(failed)?;
        let mut about = writing.open_table(ABOUT).map_err(failed)?;
        about.insert(FORMAT, NEWEST_FORMAT).map_err(failed)?;
        about.insert(REVISION, 0).map_err(failed)?;
    }
    writing.commit().map_err(failed)?;
    drop(database);
    match fs::hard_link(&new, path) {
        // Somebody else was first; that store is as good.
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(unopened(e)),
        _ => {}
    }
    fs::remove_file(&new).map_err(unopened)?;
    File::open(directory(path)).and_then(|d| d.sync_all()).map_err(unopened)
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn database(path: &Path, file: File) -> Result<Database, StoreError> {
    let backend = FileBackend::new(file).map_err(|e| refused(path, e))?;
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(refused(path, error)),
        Err(_) => Err(damaged(path, "its pages do not fit together")),
    }
}

fn read_about(path: &Path, database: &Database) -> Result<Revision, StoreError> {
    let reading = database.begin_read().map_err(failed)?;
    let about = reading.open_table(ABOUT).map_err(|e| damaged(path, &e.to_string()))?;
    reading.open_table(ENTRIES).map_err(|e| damaged(path, &e.to_string()))?;
    let number = |name| Ok(about.get(name).map_err(failed)?.map(|stored| stored.value()));
    match (number(FORMAT)?, number(REVISION)?) {
        (Some(format), _) if format > NEWEST_FORMAT => {
            Err(StoreError::Newer { path: path.to_owned(), format, newest: NEWEST_FORMAT })
        }
        (Some(_), Some(revision)) => Ok(revision),
        _ => Err(damaged(path, "it does not say its format and revision")),
    }
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Open { path: path.to_owned(), source }
        }
        other => damaged(path, &other.to_string()),
    }
}

fn damaged(path: &Path, problem: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), problem: problem.to_owned() }
}
