//! `cargo xtask tidy`: the rules of the house that no compiler checks.

mod manifests;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the repository.
    pub(crate) file: PathBuf,
    /// Line, from 1; 0 where the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong and what would be right.
    pub(crate) problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.problem),
            n => write!(f, "{}:{n}: {}", self.file.display(), self.problem),
        }
    }
}

/// Checks the repository and prints what is wrong.
///
/// # Errors
/// A rule is broken, or a file cannot be read.
pub(crate) fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            eprintln!("tidy: all rules hold");
            Ok(())
        }
        n => bail!("tidy: {n} broken rule(s), listed above"),
    }
}

/// All findings of the tree at `root`, sorted.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = manifests::check(root)?;
    for file in files(root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else {
            continue; // not text
        };
        findings.extend(sources::check(&file, &text));
    }
    findings.sort();
    Ok(findings)
}

/// Every file that belongs to the tree, relative to `root`.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name();
            if name == "target" || name == ".git" {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Ok(relative) = entry.path().strip_prefix(root)
            {
                found.push(relative.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let findings = check(&crate::repository()).unwrap();
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
