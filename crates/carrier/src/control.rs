//! The agent's socket: commands in, events out, and everything again for an
//! agent that restarted.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use types::{CarrierCommand, CarrierEvent, Counters};

use crate::CarrierError;

/// Longest command: a note of 4 KiB, escaped.
const LONGEST: u64 = 64 << 10;
/// Events kept for an agent that comes later; an attempt has a dozen.
const KEPT: usize = 1024;
/// An agent that does not take an event by then is taken for gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Counters are told no more often.
const COUNTERS: Duration = Duration::from_millis(100);
/// Without an agent, a carrier that moves nothing ends after this.
pub(crate) const ORPHAN: Duration = Duration::from_secs(120);
/// How long the last word waits for an agent.
const LAST_WORD: Duration = Duration::from_secs(30);

type OnCommand = Box<dyn Fn(CarrierCommand) + Send>;

/// The carrier's end of the control socket; clones share it.
#[derive(Clone)]
pub(crate) struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    log: Vec<CarrierEvent>,
    counters: Option<Counters>,
    counters_told: Instant,
    agent: Option<UnixStream>,
    /// Since when there is none.
    alone_since: Instant,
    on_command: Option<OnCommand>,
    /// Commands that came before anybody could act on them.
    early: Vec<CarrierCommand>,
    ended: bool,
}

impl Control {
    /// Listens on `path`, which only this user may connect to.
    pub(crate) fn listen(path: &Path) -> Result<Self, CarrierError> {
        let fail = |e: std::io::Error| CarrierError::Control(format!("{}: {e}", path.display()));
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(fail)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fail)?;
        let state = State {
            log: Vec::new(),
            counters: None,
            counters_told: Instant::now(),
            agent: None,
            alone_since: Instant::now(),
            on_command: None,
            early: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let control = Self { shared };
        let accepting = control.clone();
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                accepting.serve(agent);
            }
        });
        Ok(control)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a new agent everything so far, then takes its commands. One agent at a time.
    fn serve(&self, agent: UnixStream) {
        let Ok(reader) = agent.try_clone() else { return };
        let _ = agent.set_write_timeout(Some(PATIENCE));
        {
            let mut state = self.lock();
            if let Some(old) = state.agent.replace(agent) {
                let _ = old.shutdown(Shutdown::Both);
            }
            let mut told: Vec<CarrierEvent> = state.log.clone();
            told.extend(state.counters.map(CarrierEvent::Counters));
            for event in told {
                state.tell(&event);
            }
            self.shared.changed.notify_all();
        }
        let control = self.clone();
        thread::spawn(move || control.obey(reader));
    }

    fn obey(&self, reader: UnixStream) {
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = String::new();
            match (&mut reader).take(LONGEST).read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
            match serde_json::from_str::<CarrierCommand>(&line) {
                Ok(command) => self.command(command),
                Err(error) => tracing::warn!(%error, "the agent said something unknown"),
            }
        }
    }

    fn command(&self, command: CarrierCommand) {
        let mut state = self.lock();
        if command == CarrierCommand::End {
            state.ended = true;
        }
        match &state.on_command {
            Some(act) => act(command),
            None if state.early.len() < KEPT => state.early.push(command),
            None => {}
        }
        self.shared.changed.notify_all();
    }

    /// From now on commands go to `act`, first those that came before.
    pub(crate) fn on_command(&self, act: impl Fn(CarrierCommand) + Send + 'static) {
        let mut state = self.lock();
        for command in std::mem::take(&mut state.early) {
            act(command);
        }
        state.on_command = Some(Box::new(act));
    }

    /// Tells the agent, and keeps the event for one that comes later.
    pub(crate) fn emit(&self, event: CarrierEvent) {
        let mut state = self.lock();
        state.tell(&event);
        if state.log.len() < KEPT {
            state.log.push(event);
        }
    }

    /// Tells counters, but not too often; the last ones are told with the end.
    pub(crate) fn counters(&self, counters: Counters, last: bool) {
        let mut state = self.lock();
        state.counters = Some(counters);
        if last || state.counters_told.elapsed() >= COUNTERS {
            state.counters_told = Instant::now();
            state.tell(&CarrierEvent::Counters(counters));
        }
    }

    pub(crate) fn failed(&self, error: &CarrierError) {
        self.emit(CarrierEvent::Failed { reason: error.to_string() });
    }

    /// The agent has told the carrier to end.
    pub(crate) fn ended(&self) -> bool {
        self.lock().ended
    }

    /// Nobody has been there for long.
    pub(crate) fn orphaned(&self) -> bool {
        let state = self.lock();
        state.agent.is_none() && state.alone_since.elapsed() > ORPHAN
    }

    /// Waits until the agent has had the last word, but not for ever.
    pub(crate) fn linger(&self, fine: bool) {
        let until = Instant::now() + LAST_WORD;
        let mut state = self.lock();
        while !state.ended && Instant::now() < until {
            if fine && state.agent.is_some() {
                return;
            }
            let (next, _) = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_millis(200))
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }
}

impl State {
    fn tell(&mut self, event: &CarrierEvent) {
        let Some(agent) = &mut self.agent else { return };
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        if agent.write_all(&line).is_err() {
            self.agent = None;
            self.alone_since = Instant::now();
        }
    }
}
