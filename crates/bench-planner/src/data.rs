//! Files of the data folder.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

/// The files of a folder, by name; an absent folder has none.
///
/// # Errors
/// The folder cannot be listed.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| cannot("list", folder))? {
        files.push(entry.with_context(|| cannot("list", folder))?.path());
    }
    files.sort();
    Ok(files)
}

/// A file's bytes; what ends in `.gz` is unpacked.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    let opened = BufReader::new(File::open(file).with_context(|| cannot("open", file))?);
    let mut bytes = Vec::new();
    let packed = file.extension().is_some_and(|e| e == "gz");
    let mut source: Box<dyn Read> =
        if packed { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
    source.read_to_end(&mut bytes).with_context(|| cannot("read", file))?;
    Ok(bytes)
}

fn cannot(what: &str, file: &Path) -> String {
    format!("cannot {what} {}", file.display())
}
