//! Files that people write: bounded, and wrong ones are told where they are wrong.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

use crate::failure::{Failure, USAGE};
use crate::output::shortened;

/// Largest file in bytes.
const MAX: u64 = 1 << 20;

/// Reads a TOML file; `-` is standard input.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or is wrong; then line and field are named.
pub(crate) fn toml<T: DeserializeOwned>(path: &Path) -> Result<(T, String), Failure> {
    let text = text(path)?;
    let wrong = |field: &str, error: &toml::de::Error| {
        let line = error.span().and_then(|span| line_at(&text, span.start));
        wrong(path, line, field, error.message())
    };
    let reader = toml::Deserializer::parse(&text).map_err(|e| wrong("", &e))?;
    let value = serde_path_to_error::deserialize(reader)
        .map_err(|e| wrong(&e.path().to_string(), e.inner()))?;
    Ok((value, text))
}

/// Reads a JSON file of at most so many bytes; `-` is standard input.
///
/// # Errors
/// It cannot be read, is larger, or is wrong; then line, column and field are named.
pub(crate) fn json<T: DeserializeOwned>(path: &Path, max: u64) -> Result<T, Failure> {
    let text = text_up_to(path, max)?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| wrong(path, None, &e.path().to_string(), &e.inner().to_string()))?;
    reader.end().map_err(|e| wrong(path, None, "", &e.to_string()))?;
    Ok(value)
}

/// Reads a program's configuration.
///
/// # Errors
/// As [`toml`]; or `check` gives a field, and what is wrong with it.
pub(crate) fn config<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&T) -> Result<(), (&'static str, String)>,
) -> Result<T, Failure> {
    let (config, text) = toml(path)?;
    check(&config).map_err(|(field, problem)| wrong_field(path, &text, field, &problem))?;
    Ok(config)
}

/// The failure of a TOML file in which a field is wrong.
pub(crate) fn wrong_field(path: &Path, text: &str, field: &str, problem: &str) -> Failure {
    wrong(path, line_of(text, field), field, problem)
}

fn wrong(path: &Path, line: Option<usize>, field: &str, problem: &str) -> Failure {
    let line = line.map(|line| format!(" line {line}:")).unwrap_or_default();
    // serde's name of the whole document.
    let field = match field {
        "" | "." => String::new(),
        field => format!(" {}:", shortened(field)),
    };
    let problem = shortened(problem.trim_end());
    Failure::new(USAGE, format!("{}:{line}{field} {problem}", path.display()))
}

/// Reads a file of text; `-` is standard input.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or is no text.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    text_up_to(path, MAX)
}

/// The same, up to so many bytes.
fn text_up_to(path: &Path, max: u64) -> Result<String, Failure> {
    let failed = |e: io::Error| {
        Failure::new(USAGE, format!("{}: {e}", path.display()))
            .help(format!("name a text file of at most {} MiB", max >> 20))
    };
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    source.take(max + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > max {
        return Err(failed(io::Error::other(format!("it is larger than {} MiB", max >> 20))));
    }
    Ok(text)
}

/// The line, from 1, where a field such as `memory` or `disks[1].file` stands in
/// a TOML text, or the nearest thing around it that is there.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    line_at(text, place(document.get_ref(), field)?)
}

/// The line, from 1, of a position in bytes.
fn line_at(text: &str, at: usize) -> Option<usize> {
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// Where a field begins, in bytes.
fn place(table: &DeTable<'_>, field: &str) -> Option<usize> {
    let (name, rest) = match field.find(['.', '[']) {
        Some(end) => field.split_at(end),
        None => (field, ""),
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let (mut at, mut value, mut rest) = (key.span().start, value, rest);
    if let Some((index, behind)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        let element = value.get_ref().as_array().zip(index.parse::<usize>().ok());
        if let Some(element) = element.and_then(|(array, index)| array.get(index)) {
            (at, value, rest) = (element.span().start, element, behind);
        }
    }
    let inner = value.get_ref().as_table().zip(rest.strip_prefix('.'));
    inner.and_then(|(table, field)| place(table, field)).or(Some(at))
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
        let text = "name = \"a\"\nmemory=3\n[[disks]]\nfile = \"x\"\n[[disks]]\n  file = \"x\"\n\
                    [firmware.uefi]\nvars = { pool = \"s\",\n  file = \"v\" }\n";
        for (field, line) in [
            ("memory", Some(2)),
            ("disks[1].file", Some(6)),
            ("disks[0].file", Some(4)),
            ("disks[1].bus", Some(5)),
            ("disks[7].file", Some(3)),
            ("disks", Some(3)),
            ("firmware.uefi.vars", Some(8)),
            ("firmware.uefi.vars.file", Some(9)),
            ("nics[0].mac", None),
            ("", None),
            ("[", None),
        ] {
            assert_eq!(line_of(text, field), line, "{field}");
        }
        assert_eq!(line_of("= not toml", "memory"), None);
    }
}
