//! The programs that a lab is built with.

use std::io;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::LabError;
use crate::proc::MARKER;

/// Runs programs that make something of a lab. They bear the lab's marker, so that
/// `down` finds one that is at work still when whoever began it was killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker<'a> {
    /// The lab's id.
    pub(crate) id: &'a str,
}

impl Maker<'_> {
    /// Runs a program with arguments that are separated by blanks.
    pub(crate) fn run(self, program: &str, args: &str) -> Result<(), LabError> {
        let args: Vec<&str> = args.split_ascii_whitespace().collect();
        finish(program, &args, Command::new(program).env(MARKER, self.id)).map(|_| ())
    }

    /// Runs `ip`.
    pub(crate) fn ip(self, args: &str) -> Result<(), LabError> {
        self.run("ip", args)
    }
}

/// Runs a command to its end; its standard output, or an error with what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, LabError> {
    finish(program, args, &mut Command::new(program))
}

/// Runs `ip` with arguments that are separated by blanks.
pub(crate) fn ip(args: &str) -> Result<String, LabError> {
    run("ip", &args.split_ascii_whitespace().collect::<Vec<_>>())
}

fn finish(program: &str, args: &[&str], command: &mut Command) -> Result<String, LabError> {
    let line = || format!("{program} {}", args.join(" "));
    let out = command.args(args).stdin(Stdio::null()).output().map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            LabError::Tool { program: program.into(), package: package(program) }
        } else {
            LabError::Command { command: line(), why: e.to_string() }
        }
    })?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    let why = if said.is_empty() { out.status.to_string() } else { said };
    Err(LabError::Command { command: line(), why })
}

/// The Debian package that a program comes from.
pub(crate) fn package(program: &str) -> &'static str {
    match program {
        "ip" | "tc" => "iproute2",
        "unshare" | "nsenter" => "util-linux",
        _ => "qemu-system-x86",
    }
}

/// What `ip -j` printed.
pub(crate) fn parse<'a, T: Deserialize<'a>>(command: &str, json: &'a str) -> Result<T, LabError> {
    // `ip -j` prints nothing at all, or empty objects, where there is nothing.
    let json = if json.trim().is_empty() { "[]" } else { json };
    serde_json::from_str(json).map_err(|e| LabError::Command {
        command: command.into(),
        why: format!("its JSON cannot be understood: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = run("no-such-program", &["x"]).unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("Debian package"), "{error}");
        let error = run("ip", &["frobnicate"]).unwrap_err().to_string();
        assert!(error.contains("`ip frobnicate` failed: Object"), "{error}");
    }
}
