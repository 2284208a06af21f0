//! `godwit vm console`: a VM's serial port, wherever the VM is.

mod keyboard;
mod line;
mod terminal;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use api::console::{ConsoleQuery, End};
use api::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use types::{Code, RunState, VmName};

use self::keyboard::{Escape, Keyboard};
use self::line::{Line, Over};
use self::terminal::Raw;
use super::One;
use crate::failure::{Failure, TIMED_OUT};
use crate::output::Output;
use crate::span;
use crate::wait::passes;

/// How long a console that was lost is looked for.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  godwit vm console web01\n  godwit vm console web01 --read-only\n  godwit vm console web01 --escape ^A\n\n\
                  In a script: echo 'uname -r' | godwit vm console web01 --linger 2s"
)]
pub(crate) struct Args {
    #[command(flatten)]
    one: One,
    /// Look on; type nothing.
    #[arg(long)]
    read_only: bool,
    /// End the session of whoever types now.
    #[arg(long, conflicts_with = "read_only")]
    take_over: bool,
    /// The key that ends the session, `^` and a character; `none`: no key does.
    #[arg(long, value_parser = keyboard::escape, default_value = "^]", value_name = "KEY")]
    escape: Escape,
    /// How long the VM must be silent after the end of input, where that is no terminal.
    #[arg(long, value_parser = span::parse, default_value = "1s", value_name = "SPAN")]
    linger: Duration,
}

/// How a session ended.
enum Left {
    /// As the user wished.
    Detached,
    /// By a signal.
    Interrupted,
    /// The VM does not run any more.
    Stopped,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let One { vm, connect } = args.one;
    let client = connect.client()?;
    let raw = if args.read_only { None } else { Raw::of_stdin()? };
    let escape = raw.as_ref().map(|_| args.escape);
    let keyboard = if args.read_only { Keyboard::none() } else { Keyboard::start(escape) };
    let line = Line::new(keyboard, args.linger, args.read_only || raw.is_some());
    let query = ConsoleQuery {
        session: uuid::Uuid::new_v4().to_string(),
        read_only: args.read_only,
        take_over: args.take_over,
        seen: String::new(),
    };
    let mut follower =
        Follower { client, vm, query, line, raw: raw.is_some(), output: output.clone() };
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::of)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::of)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::of)?;
    let left = tokio::select! {
        left = follower.follow(args.escape) => left,
        _ = terminate.recv() => Ok(Left::Interrupted),
        _ = interrupt.recv() => Ok(Left::Interrupted),
        _ = hang_up.recv() => Ok(Left::Interrupted),
    };
    // The terminal first: what follows is for its usual mode.
    drop(raw);
    let vm = &follower.vm;
    match left? {
        Left::Detached => output.message(&format!("detached from {vm}, which runs on")),
        Left::Stopped => output.message(&format!("{vm} is stopped")),
        Left::Interrupted => {
            let message = format!("detached from {vm}, which runs on");
            let help = format!("`godwit vm console {vm}` attaches again");
            return Err(Failure::new(TIMED_OUT, message).help(help));
        }
    }
    Ok(())
}

/// A user at the console of a VM that moves.
struct Follower {
    client: Client,
    vm: VmName,
    query: ConsoleQuery,
    line: Line,
    raw: bool,
    output: Output,
}

impl Follower {
    async fn follow(&mut self, escape: Escape) -> Result<Left, Failure> {
        let mut stream = self.client.console(&self.vm, &self.query).await?;
        self.query.take_over = false;
        let mut first = true;
        loop {
            let mut host = None;
            let over = self.line.serve(stream, |on| {
                let said = match (first, self.raw, escape.name()) {
                    (true, true, Some(key)) => format!("attached to VM on {on}; {key} detaches"),
                    (true, ..) => format!("attached to VM on {on}"),
                    (false, ..) => format!("VM is on {on} now"),
                };
                say(&self.output, self.raw, &said.replace("VM", self.vm.as_str()));
                (first, host) = (false, Some(on.clone()));
            });
            match over.await {
                Over::Left => return Ok(Left::Detached),
                Over::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(Left::Detached);
                }
                Over::Output(error) => {
                    return Err(Failure::of(format!("standard output: {error}")));
                }
                Over::Ended(End::Failed(why)) => {
                    return Err(Failure::of(format!("the console of {}: {why}", self.vm)));
                }
                Over::Ended(End::Moved) => self.say("VM moves; attaching on its new host"),
                Over::Ended(End::Stopped) => {}
                Over::Broken(why) => {
                    self.say(&format!("the connection is lost ({why}); attaching again"));
                }
            }
            match self.again().await? {
                Some(found) => stream = found,
                None => return Ok(Left::Stopped),
            }
            if self.line.left() {
                return Ok(Left::Detached);
            }
        }
    }

    /// The console, once it is there again; `None` if the VM is stopped.
    async fn again(&mut self) -> Result<Option<api::console::Stream>, Failure> {
        self.query.seen = self.line.seen();
        let begun = Instant::now();
        loop {
            let error = tokio::select! {
                found = self.client.console(&self.vm, &self.query) => match found {
                    Ok(stream) => return Ok(Some(stream)),
                    Err(error) => error,
                },
                () = self.line.typing() => return Err(self.gone()),
            };
            let late = begun.elapsed() >= PATIENCE;
            if late || !comes_back(&error) {
                return Err(error.into());
            }
            if let Ok(view) = self.client.vm(&self.vm).await
                && view.desired == RunState::Stopped
            {
                return Ok(None);
            }
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = self.line.typing() => return Err(self.gone()),
            }
        }
    }

    /// The user left while the console was looked for.
    fn gone(&self) -> Failure {
        Failure::new(TIMED_OUT, format!("detached from {}, whose console was away", self.vm))
    }

    fn say(&self, text: &str) {
        say(&self.output, self.raw, &text.replace("VM", self.vm.as_str()));
    }
}

/// What passes while a VM moves, an agent restarts or a VM reboots.
fn comes_back(error: &ClientError) -> bool {
    let passing = [Code::HostDown, Code::VmNotRunning];
    passes(error) || matches!(error, ClientError::Problem(p) if passing.contains(&p.code))
}

/// A message amid the VM's own output.
fn say(output: &Output, raw: bool, text: &str) {
    if raw && !output.is_quiet() {
        // Nobody is left to be told when this fails.
        let _ = write!(io::stderr().lock(), "\r\n[{text}]\r\n");
    } else {
        output.message(text);
    }
}
