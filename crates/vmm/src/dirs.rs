//! Private directories and log files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::VmmError;

/// A log that has become longer begins anew with the next process.
const LONGEST_LOG: u64 = 1 << 20;
/// This much of a log's end goes into an error.
const TAIL: u64 = 2048;

/// Makes a directory with its parents; nobody else may enter it.
pub(crate) fn private(dir: &Path) -> Result<(), VmmError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .map_err(VmmError::io("create directory", dir))
}

/// Opens a log for a process to add to; also how long it is already.
pub(crate) fn log(path: &Path) -> Result<(File, u64), VmmError> {
    let open = || {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let mut length = file.metadata()?.len();
        if length > LONGEST_LOG {
            file.set_len(0)?;
            length = 0;
        }
        Ok((file, length))
    };
    open().map_err(VmmError::io("open log", path))
}

/// The end of a log, as far as it was written after `start`, in one line.
pub(crate) fn tail(path: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What is not there need not be removed.
pub(crate) fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
