//! Ctrl-C leaves to itself what goes on without the command, and says so.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, TIMED_OUT};

/// Exit code of a program that a second Ctrl-C ends: 128 and SIGINT's number.
const AT_ONCE: i32 = 130;

/// Ctrl-C, from when it is made: it no longer ends the program by itself.
#[derive(Debug)]
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    pub(crate) fn catch() -> Result<Self, Failure> {
        signal(SignalKind::interrupt()).map(Self).map_err(Failure::of)
    }

    /// What `work` gives; or, at Ctrl-C, that what it waits for goes on: `goes_on`
    /// in a sentence, and what can be done about it. A second one ends at once.
    pub(crate) async fn or_detach<T>(
        mut self,
        work: impl Future<Output = Result<T, Failure>>,
        goes_on: impl Into<String>,
        help: impl Into<String>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            _ = self.0.recv() => {
                tokio::spawn(async move {
                    self.0.recv().await;
                    std::process::exit(AT_ONCE);
                });
                let message = format!("detached: {}", goes_on.into());
                Err(Failure::new(TIMED_OUT, message).help(help))
            }
        }
    }

    /// The next Ctrl-C.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
