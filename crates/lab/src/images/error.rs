//! Why a guest's image cannot be made, and what would help.

use std::io;
use std::path::PathBuf;

/// Everything that can go wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program is missing.
    #[error("the program {program} is missing: install the package {package}")]
    Tool {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("`{command}` failed: {why}{remedy}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        why: String,
        /// What may help, as the rest of the sentence; empty where nothing is known.
        remedy: &'static str,
    },
    /// No kernel package is known.
    #[error(
        "no kernel package is known to apt ({tried}): run `apt-get update`, or give a kernel and \
         an initrd yourself (--kernel, --initrd)"
    )]
    NoKernel {
        /// The names that were tried.
        tried: String,
    },
    /// A package does not hold what it should.
    #[error("{package} has no {what}; give a kernel and an initrd yourself (--kernel, --initrd)")]
    Package {
        /// The package.
        package: String,
        /// What is missing in it.
        what: String,
    },
    /// The guest's program was not built.
    #[error(
        "the program that runs inside Linux guests was not built (is libc6-dev installed?): {0}"
    )]
    NoGuest(&'static str),
    /// Something cannot stand in a spec.
    #[error("{what} {given:?} cannot stand in a spec: {why}")]
    Spec {
        /// What it is.
        what: &'static str,
        /// What was given.
        given: String,
        /// Why it cannot.
        why: String,
    },
}
