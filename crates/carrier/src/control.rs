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

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    /// How many agents there have been.
    agents: u64,
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
            agents: 0,
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
        let mut state = self.lock();
        state.dismiss();
        state.agent = Some(agent);
        state.agents += 1;
        let number = state.agents;
        let mut told: Vec<CarrierEvent> = state.log.clone();
        told.extend(state.counters.map(CarrierEvent::Counters));
        for event in told {
            state.tell(&event);
        }
        drop(state);
        self.shared.changed.notify_all();
        let control = self.clone();
        thread::spawn(move || control.obey(reader, number));
    }

    fn obey(&self, reader: UnixStream, number: u64) {
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
        let mut state = self.lock();
        if state.agents == number {
            state.dismiss();
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
        let name = event.name();
        tracing::trace!(target: "point", place = "link", name, when = "before");
        self.emit_now(event);
        tracing::trace!(target: "point", place = "link", name, when = "after");
    }

    fn emit_now(&self, event: CarrierEvent) {
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
            // An agent that does not read misses counters, not events; nobody waits for it.
            if last || state.agent.as_ref().is_some_and(has_room) {
                state.tell(&CarrierEvent::Counters(counters));
            }
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
            self.dismiss();
        }
    }

    /// The agent is gone, or is to go: it may have half a line only.
    fn dismiss(&mut self) {
        if let Some(agent) = self.agent.take() {
            let _ = agent.shutdown(Shutdown::Both);
            self.alone_since = Instant::now();
        }
    }
}

/// Whether most of the socket's buffer is free.
fn has_room(agent: &UnixStream) -> bool {
    let mut wanted = [PollFd::new(agent, PollFlags::OUT)];
    let at_once = Timespec::default();
    poll(&mut wanted, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(path: &Path) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        BufReader::new(stream)
    }

    fn hear(agent: &mut BufReader<UnixStream>) -> Option<CarrierEvent> {
        let mut line = String::new();
        (agent.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    fn wait(control: &Control, until: impl Fn(&State) -> bool) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !until(&control.lock()) {
            assert!(Instant::now() < limit);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_new_agent_hears_everything_and_the_old_one_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let control = Control::listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        control.emit(CarrierEvent::Listening { port: 7 });
        let mut first = agent(&path);
        assert_eq!(hear(&mut first), Some(CarrierEvent::Listening { port: 7 }));
        let mut second = agent(&path);
        assert_eq!(hear(&mut second), Some(CarrierEvent::Listening { port: 7 }));
        assert_eq!(hear(&mut first), None);
        control.emit(CarrierEvent::Sealed);
        assert_eq!(hear(&mut second), Some(CarrierEvent::Sealed));
        wait(&control, |state| state.agent.is_some());
        drop(second);
        wait(&control, |state| state.agent.is_none());
    }

    #[test]
    fn an_agent_that_does_not_read_keeps_nobody_waiting_and_misses_no_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let control = Control::listen(&path).unwrap();
        let mut slow = agent(&path);
        wait(&control, |state| state.agent.is_some());
        let begun = Instant::now();
        for done_bytes in 1..20_000 {
            control.lock().counters_told = begun - COUNTERS;
            control.counters(Counters { done_bytes, ..Counters::default() }, false);
        }
        control.emit(CarrierEvent::Sealed);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        while hear(&mut slow).unwrap() != CarrierEvent::Sealed {}
    }
}
