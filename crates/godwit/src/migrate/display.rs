//! Progress on standard error: one line rewritten on a terminal, else a line a
//! second and at every change of phase.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use api::body::AttemptView;

use super::progress::Shown;
use crate::output::{Output, tell};

/// To the line's start and empty it; what is longer than the terminal is wide is
/// cut off there, because a line that wraps cannot be rewritten.
const REWRITE: &str = "\r\x1b[K\x1b[?7l";
/// Lines wrap again.
const WRAP: &str = "\x1b[?7h";

/// Between two lines where they are not rewritten.
const PACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Display {
    shown: Shown,
    quiet: bool,
    terminal: bool,
    /// A line on the terminal that still wants its end.
    open: bool,
    last: Option<Duration>,
}

impl Display {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            shown: Shown::default(),
            quiet: output.is_quiet(),
            terminal: io::stderr().is_terminal() && std::env::var_os("TERM") != Some("dumb".into()),
            open: false,
            last: None,
        }
    }

    /// Shows what was seen `elapsed` after the start.
    pub(crate) fn show(&mut self, view: &AttemptView, elapsed: Duration) {
        if self.quiet {
            return;
        }
        let before = self.shown.phase();
        let line = self.shown.line(view, elapsed);
        if self.terminal {
            self.open = true;
            let mut stderr = io::stderr().lock();
            // Nobody is left to be told when this fails.
            let _ = write!(stderr, "{REWRITE}{line}{WRAP}").and_then(|()| stderr.flush());
        } else if before != self.shown.phase() || self.last.is_none_or(|at| elapsed >= at + PACE) {
            self.last = Some(elapsed);
            tell(&line);
        }
    }

    /// Ends the line that is being rewritten.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            tell("");
        }
    }
}
