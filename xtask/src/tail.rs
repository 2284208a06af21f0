//! Files that programs write on, read as they grow: whole lines only, and from the
//! beginning where a file was begun anew.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// What is appended to a file.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: String,
}

impl Tail {
    /// From its present end on.
    pub(crate) fn new(path: PathBuf) -> Self {
        let mut file = File::open(&path).ok();
        if let Some(file) = &mut file {
            let _ = file.seek(SeekFrom::End(0));
        }
        Self { path, file, rest: String::new() }
    }

    /// Whole lines that have come.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Vec::new() };
        // A log that has grown long begins anew.
        let length = file.metadata().map_or(0, |about| about.len());
        if file.stream_position().is_ok_and(|at| at > length) {
            let _ = file.rewind();
            self.rest.clear();
        }
        let mut bytes = Vec::new();
        if file.take(1 << 20).read_to_end(&mut bytes).is_err() {
            return Vec::new();
        }
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let Some(end) = self.rest.rfind('\n') else { return Vec::new() };
        let whole: Vec<String> = self.rest[..end].lines().map(str::to_owned).collect();
        self.rest.drain(..=end);
        whole
    }

    /// Drops the line that has only begun.
    pub(crate) fn forget(&mut self) {
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_anew_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial.log");
        std::fs::write(&path, "one\n").unwrap();
        let mut tail = Tail::new(path.clone());
        std::fs::write(&path, "").unwrap();
        assert_eq!(tail.lines(), Vec::<String>::new());
        std::fs::write(&path, "two\nth").unwrap();
        assert_eq!(tail.lines(), ["two"]);
    }
}
