//! What can go wrong between a spec and a running QEMU.

use std::path::{Path, PathBuf};

/// Why something of a VM could not be made, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The host's configuration cannot work.
    #[error("{option}: {problem}")]
    Config {
        /// The option, as in the configuration file.
        option: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The spec is wrong in itself.
    #[error(transparent)]
    Spec(#[from] types::SpecError),
    /// The spec asks for something this host does not have.
    #[error("{what}: {problem}")]
    Missing {
        /// What was asked for.
        what: String,
        /// Why it cannot be had, and what would make it work.
        problem: String,
    },
    /// Guest memory cannot be reserved.
    #[error("not enough {what}: {wanted} asked for, {free} of {total} free; {remedy}")]
    NotEnoughMemory {
        /// Which memory.
        what: &'static str,
        /// What the VM needs.
        wanted: types::Bytes,
        /// What is free.
        free: types::Bytes,
        /// What there is.
        total: types::Bytes,
        /// What would make it work.
        remedy: &'static str,
    },
    /// A file or directory refuses.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A helper program failed.
    #[error("{command}: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        problem: String,
    },
    /// QEMU did not start, or not as it was meant to.
    #[error("QEMU did not start: {problem}{}", said(log))]
    Start {
        /// What failed.
        problem: String,
        /// The last of what QEMU said, possibly empty.
        log: String,
    },
    /// QEMU lives and its monitor refuses.
    #[error(transparent)]
    Monitor(#[from] qmp::QmpError),
    /// A process was killed and is still there.
    #[error("process {pid} ({what}) does not end, although it was killed; it may wait for storage")]
    Immortal {
        /// What it is.
        what: &'static str,
        /// Its id.
        pid: u32,
    },
}

impl VmmError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn missing(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), problem: problem.into() }
    }
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; it said: {log}") }
}
