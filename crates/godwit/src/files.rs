//! Files that people write: bounded, and wrong ones are told where they are wrong.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::failure::{Failure, USAGE};

/// Largest file in bytes.
const MAX: u64 = 1 << 20;

/// Reads a TOML file; `-` is standard input.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or is wrong; then line and field are named.
pub(crate) fn toml<T: DeserializeOwned>(path: &Path) -> Result<(T, String), Failure> {
    let text = text(path)?;
    match toml::from_str(&text) {
        Ok(value) => Ok((value, text)),
        Err(error) => {
            let message = format!("{}: {}", path.display(), error.to_string().trim_end());
            Err(Failure::new(USAGE, message))
        }
    }
}

/// Refuses a file that is too large to be what a program's own reader wants.
pub(crate) fn bounded(path: &Path) -> Result<&Path, Failure> {
    match path.metadata() {
        Ok(file) if file.len() > MAX => {
            Err(Failure::new(USAGE, format!("{}: it is larger than 1 MiB", path.display())))
        }
        // What else is wrong, the reader tells.
        _ => Ok(path),
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| {
        Failure::new(USAGE, format!("{}: {e}", path.display()))
            .help("name a TOML file of at most 1 MiB")
    };
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    source.take(MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(text)
}

/// The line, from 1, where a field such as `memory` or `disks[1].file` stands in
/// a TOML text, as far as a look at the lines can tell.
pub(crate) fn line_of(text: &str, field: &str) -> Option<usize> {
    let leaf = field.rsplit('.').next()?.split('[').next()?;
    let index = field
        .split_once('[')
        .and_then(|(_, rest)| rest.split(']').next()?.parse::<usize>().ok())
        .unwrap_or(0);
    let is_it = |line: &&str| {
        let rest = line.trim_start().strip_prefix(leaf).unwrap_or("").trim_start();
        rest.starts_with('=')
    };
    let mut found = text.lines().enumerate().filter(|(_, line)| is_it(line));
    found.nth(index).map(|(number, _)| number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::VmSpec;

    #[test]
    fn wrong_files_are_told_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.toml");
        std::fs::write(&path, "name = \"a\"\nmemory = \"2 parsecs\"\n").unwrap();
        let failure = toml::<VmSpec>(&path).unwrap_err();
        assert_eq!(failure.exit, USAGE);
        for part in ["vm.toml", "line 2", "memory", "parsecs"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        std::fs::write(&path, vec![b'#'; (MAX + 1) as usize]).unwrap();
        assert!(toml::<VmSpec>(&path).unwrap_err().message.contains("larger than 1 MiB"));
        let missing = toml::<VmSpec>(&dir.path().join("none")).unwrap_err();
        assert!(missing.message.contains("none"), "{}", missing.message);
    }

    #[test]
    fn fields_are_found_in_their_lines() {
        let text = "name = \"a\"\nmemory=3\n[[disks]]\nfile = \"x\"\n[[disks]]\n  file = \"x\"\n";
        assert_eq!(line_of(text, "memory"), Some(2));
        assert_eq!(line_of(text, "disks[1].file"), Some(6));
        assert_eq!(line_of(text, "nics[0].mac"), None);
        assert_eq!(line_of(text, "disks"), None);
    }
}
