//! `--watch`: a result again and again, each time it has changed.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::sleep;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, print};
use crate::wait::passes;

const POLL: Duration = Duration::from_secs(1);
/// To the upper left corner, and everything empty.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Whether to go on showing.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Watch {
    /// Show it again whenever it has changed, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

impl Watch {
    /// Shows what `fetch` gives as `show` writes it: once, or until Ctrl-C.
    pub(crate) async fn show<T>(
        self,
        output: &Output,
        fetch: impl AsyncFn() -> Result<T, api::ClientError>,
        show: impl Fn(&T) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        if !self.watch {
            return print(&show(&fetch().await?)?);
        }
        let mut interrupt = Interrupt::catch()?;
        tokio::select! {
            failed = repeat(output, fetch, show) => failed,
            // The way to end it.
            () = interrupt.next() => Ok(()),
        }
    }
}

async fn repeat<T>(
    output: &Output,
    fetch: impl AsyncFn() -> Result<T, api::ClientError>,
    show: impl Fn(&T) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let redraw = io::stdout().is_terminal() && !output.is_data();
    let mut shown: Option<String> = None;
    let mut away = false;
    loop {
        match fetch().await {
            Ok(value) => {
                away = false;
                let text = show(&value)?;
                if shown.as_ref() != Some(&text) {
                    print(&frame(&text, redraw, shown.is_none(), output))?;
                    shown = Some(text);
                }
            }
            Err(error) if shown.is_some() && passes(&error) => {
                if !std::mem::replace(&mut away, true) {
                    output.message(&format!("{error}; waiting"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep(POLL).await;
    }
}

/// What tells one showing from the next.
fn frame(text: &str, redraw: bool, first: bool, output: &Output) -> String {
    match (redraw, first || output.is_json()) {
        (true, _) => format!("{CLEAR}{text}"),
        (false, true) => text.to_owned(),
        (false, false) if output.is_data() => format!("---\n{text}"),
        (false, false) => format!("\n{text}"),
    }
}
