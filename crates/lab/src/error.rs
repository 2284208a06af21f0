//! Why something about a lab did not work, and what would make it work.

use std::path::{Path, PathBuf};

/// Everything that can go wrong with a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, links and mounts need root.
    #[error("a lab makes network namespaces and mounts, which needs root: run it with sudo")]
    NotRoot,
    /// A program the lab is built with is missing.
    #[error("the program {program:?} is missing: install the Debian package {package}")]
    Tool {
        /// The program.
        program: String,
        /// The package that brings it.
        package: &'static str,
    },
    /// A lab is up already.
    #[error(
        "a lab is already up in {dir}: end it with `godwit lab down`, or use another directory"
    )]
    AlreadyUp {
        /// Its directory.
        dir: PathBuf,
    },
    /// There is no lab in the directory.
    #[error("no lab is up in {dir}: bring one up with `godwit lab up`")]
    NotUp {
        /// The directory.
        dir: PathBuf,
    },
    /// Something else uses what the lab would use.
    #[error("{what} is in use: {who}; {remedy}")]
    InUse {
        /// The address range, the interface or the namespace.
        what: String,
        /// What was found there.
        who: String,
        /// What would make it work.
        remedy: String,
    },
    /// An option that cannot be.
    #[error("{option} {given:?} is not possible: {rule}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is possible.
        rule: String,
    },
    /// A host that the lab does not have.
    #[error("the lab has no host {host:?}; it has {known}")]
    NoHost {
        /// What was asked for.
        host: String,
        /// The hosts there are.
        known: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file says something that cannot be understood.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A command failed.
    #[error("`{command}` failed: {why}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        why: String,
    },
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Certificates could not be made.
    #[error("cannot make the lab's certificates: {0}")]
    Certificates(String),
    /// The proxy refused or did not answer.
    #[error("the lab's proxy: {0}")]
    Proxy(String),
    /// The lab did not come up in time.
    #[error("the lab was not ready after {seconds} s: {missing}\n{log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// What is missing.
        missing: String,
        /// The end of the log of what failed.
        log: String,
    },
    /// Something of the lab could not be removed.
    #[error("something is left of the lab:\n  {}", .left.join("\n  "))]
    Left {
        /// What, one line each.
        left: Vec<String>,
    },
}

impl LabError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let action = action.into();
        move |errno| Self::System { action, source: errno.into() }
    }
}
