//! The ends of logs, for errors.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const MOST_BYTES: u64 = 8 << 10;
const MOST_LINES: usize = 25;

/// The last lines of a log with its path; says so where there is nothing.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let path = path.display();
    match read() {
        Err(e) => format!("{path} cannot be read: {e}"),
        Ok(bytes) if bytes.is_empty() => format!("{path} is empty"),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(MOST_LINES);
            format!("the end of {path}:\n{}", lines[last..].join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(tail(&path).contains("cannot be read"));
        std::fs::write(&path, "").unwrap();
        assert!(tail(&path).ends_with("is empty"));
        let lines: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let end = tail(&path);
        assert!(end.ends_with("line 9998\nline 9999"), "{end}");
        assert_eq!(end.lines().count(), 1 + MOST_LINES);
    }
}
