//! PEM files that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{CertError, Files};

/// Largest file read, in bytes.
const MAX_PEM: u64 = 1 << 20;

pub(super) fn make_dir(dir: &Path) -> Result<(), CertError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

pub(super) fn refuse_existing(files: &Files) -> Result<(), CertError> {
    for path in [&files.key, &files.cert] {
        if path.symlink_metadata().is_ok() {
            return Err(CertError::Exists(path.clone()));
        }
    }
    Ok(())
}

/// The certificate last: where it stands, its key stands too.
pub(super) fn write_pair(files: &Files, cert: &str, key: &str) -> Result<(), CertError> {
    write_new(&files.key, key.as_bytes(), 0o600)?;
    write_new(&files.cert, cert.as_bytes(), 0o644)
}

/// Writes a file that appears whole or not at all and replaces nothing.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let temporary = beside(path);
    let result = write(&temporary, bytes, mode).and_then(|()| {
        // A hard link, unlike a rename, fails where the name is taken.
        fs::hard_link(&temporary, path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CertError::Exists(path.to_owned()),
            _ => CertError::File { path: path.to_owned(), source },
        })
    });
    // Nothing to do about a left-over that cannot be removed; it replaces nothing.
    let _ = fs::remove_file(&temporary);
    result
}

/// Writes a file, or a new content of it: who reads it sees the old or the new one.
///
/// # Errors
/// It cannot be written; then it is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let temporary = beside(path);
    write(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(at(path)))
        .inspect_err(|_| {
            // As above.
            let _ = fs::remove_file(&temporary);
        })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}

fn write(temporary: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)
        .map_err(at(temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(temporary))
}

pub(super) fn read(path: &Path) -> Result<String, CertError> {
    let mut text = String::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(MAX_PEM).read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

fn at(path: &Path) -> impl Fn(io::Error) -> CertError {
    let path = path.to_owned();
    move |source| CertError::File { path: path.clone(), source }
}
