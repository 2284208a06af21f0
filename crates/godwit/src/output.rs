//! Standard output is the result; standard error is everything else.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{FAILED, Failure};

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // For people. Not doc comments: they would fill half of every help text.
    #[default]
    Table,
    // For programs.
    Json,
}

/// Where results and messages go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes the result: `value` as JSON, or what `table` makes of it.
    pub(crate) fn result<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(value).map_err(Failure::of)?;
                print(&format!("{text}\n"))
            }
            Format::Table => print(&table(value)),
        }
    }

    /// A message about what goes on.
    pub(crate) fn message(&self, text: &str) {
        if !self.quiet {
            tell(&clean(text));
        }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough is none of our failures.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(FAILED, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody is left to be told when that fails.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The text without what a terminal would obey. Lines stay lines.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_orders() {
        assert_eq!(clean("a\u{1b}[31mb\nc\rd"), "a?[31mb\nc?d");
    }
}
