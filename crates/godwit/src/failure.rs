//! How a command ends when it does not succeed.

use std::fmt::Display;

use api::ClientError;
use types::Problem;

use crate::colour::{self, Tone};
use crate::output::{clean, tell};

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a command that was used wrongly.
pub(crate) const USAGE: u8 = 2;
/// Exit code of a command that did a part of what was wanted; the rest is listed.
pub(crate) const PARTIAL: u8 = 3;
/// Exit code of a command that was refused; nothing was done.
pub(crate) const REFUSED: u8 = 4;
/// Exit code of a command that waited in vain; what it waited for goes on.
pub(crate) const TIMED_OUT: u8 = 5;
/// Exit code of a migration that was cancelled.
pub(crate) const CANCELLED: u8 = 6;

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: u8,
    /// What failed and why.
    pub(crate) message: String,
    /// What would make it work.
    pub(crate) help: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A failure without a better word for it.
    pub(crate) fn of(error: impl Display) -> Self {
        Self::new(FAILED, error.to_string())
    }

    /// Writes it to standard error.
    pub(crate) fn show(&self) {
        let colours = colour::wanted(&std::io::stderr());
        tell(&format!("{} {}", Tone::Bad.paint("error:", colours), clean(&self.message)));
        if let Some(help) = &self.help {
            tell(&format!("{} {}", Tone::Heading.paint("help:", colours), clean(help)));
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let Problem { code, detail, remedy } = problem;
        Self { exit: code.exit(), message: format!("{detail} [{}]", code.as_str()), help: remedy }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        error.problem().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Code;

    #[test]
    fn a_problem_keeps_its_code_and_remedy() {
        let problem = Problem::new(Code::TooLate, "host-b owns web01").remedy("migrate it back");
        let failure = Failure::from(problem);
        assert_eq!(failure.exit, REFUSED);
        assert_eq!(failure.message, "host-b owns web01 [too-late]");
        assert_eq!(failure.help.as_deref(), Some("migrate it back"));
        let away = ClientError::Unreachable { controller: "https://x".into(), why: "no".into() };
        assert_eq!(Failure::from(away).exit, 8);
    }
}
