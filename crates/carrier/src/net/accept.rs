//! The destination's end: a door that turns strangers away and stays open for the next link.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use api::tls::server_config;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use types::CarrierConfig;
use wire::{Direction, Entrance, Hello};

use super::greet::{Key, hear, identity, say, session_key};
use super::{Breakers, Counted, Link, Tls};
use crate::CarrierError;

/// For handshake and hello of one connection.
const GREETING: Duration = Duration::from_secs(5);
/// Connections that may be greeted at once; more are closed.
const GUESTS: usize = 32;
/// How often a door that nobody knocks at looks whether it is to be shut.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Listens on the first free port of the range.
pub(crate) fn listen(address: &str, ports: (u16, u16)) -> Result<(TcpListener, u16), CarrierError> {
    let mut last = None;
    for port in ports.0..=ports.1 {
        match TcpListener::bind((address, port)) {
            Ok(listener) => {
                let port = listener.local_addr().map_or(port, |a| a.port());
                return Ok((listener, port));
            }
            Err(e) => last = Some(e),
        }
    }
    let why = last.map_or_else(|| "no ports given".to_owned(), |e| e.to_string());
    Err(CarrierError::Peer(format!(
        "no port of {}-{} is free on {address} for the carrier ({why})",
        ports.0, ports.1
    )))
}

/// What the destination says of its memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holds {
    /// Pages are placed directly.
    pub(crate) placing: bool,
    /// There is an image of the VM, whose index follows.
    pub(crate) image: bool,
}

/// Greets each connection on a thread of its own, so that nobody keeps others
/// waiting, and gathers those that prove themselves into links.
pub(crate) struct Door(Arc<Shared>);

struct Shared {
    config: CarrierConfig,
    tls: Arc<ServerConfig>,
    holds: Holds,
    sent: Arc<AtomicU64>,
    /// Breaks the link in use when a newer one has come.
    breakers: Breakers,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entrance: Entrance,
    session: Option<Key>,
    inside: usize,
    gathering: Option<Gathering>,
    complete: Option<Gathering>,
    closed: bool,
}

/// The connections of a link that is not complete yet.
struct Gathering {
    /// What its first connection said.
    hello: Hello,
    forward: Vec<Option<(Tls, Hello)>>,
    backward: Option<(Tls, Hello)>,
}

impl Door {
    /// Opens the door.
    pub(crate) fn open(
        config: &CarrierConfig,
        listener: TcpListener,
        holds: Holds,
        breakers: &Breakers,
    ) -> Result<Self, CarrierError> {
        let tls =
            server_config(&identity(config)).map_err(|e| CarrierError::Config(e.to_string()))?;
        let mut tls = (*tls).clone();
        // A session is used once. A ticket that nobody reads would also reset the connection.
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        listener.set_nonblocking(true).map_err(|e| CarrierError::Peer(e.to_string()))?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            tls: Arc::new(tls),
            holds,
            sent: Arc::default(),
            breakers: breakers.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let listening = Arc::clone(&shared);
        thread::spawn(move || listening.listen(&listener));
        Ok(Self(shared))
    }

    /// Waits a moment for a link of which all connections have proved themselves, and
    /// answers them: `applied` is what we have applied of the other side's stream.
    pub(crate) fn wait(&self, patience: Duration, applied: u64) -> Option<Link> {
        let shared = &self.0;
        let (mut state, _) = shared
            .changed
            .wait_timeout_while(shared.lock(), patience, |state| state.complete.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let link = state.complete.take()?;
        let begun = state.begin(&link, &shared.config);
        let session = state.session;
        drop(state);
        match begun.and_then(|()| link.answer(shared, session, applied)) {
            Ok(link) => Some(link),
            Err(error) => {
                tracing::warn!(%error, "a link did not come about");
                None
            }
        }
    }

    /// The other side has spoken on the present link.
    pub(crate) fn heard(&self) {
        self.0.lock().entrance.heard();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.lock().closed = true;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        while !self.lock().closed {
            let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&LOOK));
            let Ok((stream, from)) = listener.accept() else { continue };
            let mut state = self.lock();
            if state.inside >= GUESTS {
                tracing::warn!(%from, "too many connections at once; this one was closed");
                continue;
            }
            state.inside += 1;
            drop(state);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.welcome(stream, from));
        }
    }

    fn welcome(&self, stream: TcpStream, from: SocketAddr) {
        let greeted = self.greet(stream);
        let mut state = self.lock();
        state.inside -= 1;
        let gathered = greeted.and_then(|(tls, hello)| state.gather(tls, hello));
        match gathered {
            Ok(true) => {
                // Before anybody can take the new link, lest that be broken.
                self.breakers.shut();
                drop(state);
                self.changed.notify_all();
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%from, %error, "a connection was turned away"),
        }
    }

    fn greet(&self, stream: TcpStream) -> Result<(Tls, Hello), CarrierError> {
        let deadline = Instant::now() + GREETING;
        let mut server =
            ServerConnection::new(Arc::clone(&self.tls)).map_err(CarrierError::invalid)?;
        server.set_buffer_limit(Some(1 << 20));
        let counted = Counted::new(stream, &self.sent, deadline).map_err(CarrierError::invalid)?;
        let mut tls = Tls::Server(Box::new(StreamOwned::new(server, counted)));
        tls.handshake().map_err(CarrierError::invalid)?;
        let session = self.lock().session;
        let said = hear(&self.config, session.as_ref(), &mut tls, true)?;
        Ok((tls, said))
    }
}

impl State {
    /// Adds a connection to its link; whether the link is complete now.
    fn gather(&mut self, tls: Tls, hello: Hello) -> Result<bool, CarrierError> {
        self.entrance.check(hello.link).map_err(CarrierError::invalid)?;
        if self.gathering.as_ref().is_some_and(|g| g.hello.link > hello.link) {
            return Err(CarrierError::invalid("its link is over"));
        }
        let mut gathering = match self.gathering.take() {
            Some(gathering) if gathering.hello.link == hello.link => gathering,
            _ => Gathering { hello: hello.clone(), forward: Vec::new(), backward: None },
        };
        match hello.direction {
            Direction::Forward => {
                let lanes = usize::from(hello.lanes);
                if gathering.forward.len() != lanes {
                    gathering.forward = (0..lanes).map(|_| None).collect();
                }
                if let Some(place) = gathering.forward.get_mut(usize::from(hello.lane)) {
                    *place = Some((tls, hello));
                }
            }
            Direction::Backward => gathering.backward = Some((tls, hello)),
        }
        let whole = !gathering.forward.is_empty() && gathering.forward.iter().all(Option::is_some);
        if whole && gathering.backward.is_some() {
            self.complete = Some(gathering);
            return Ok(true);
        }
        self.gathering = Some(gathering);
        Ok(false)
    }

    /// The link that is complete becomes the present one.
    fn begin(&mut self, link: &Gathering, config: &CarrierConfig) -> Result<(), CarrierError> {
        self.entrance.admit(link.hello.link).map_err(CarrierError::invalid)?;
        if link.hello.link == 0
            && let Some(Some((first, _))) = link.forward.first()
        {
            self.session = Some(session_key(config, first)?);
        }
        Ok(())
    }
}

impl Gathering {
    fn answer(
        self,
        shared: &Shared,
        session: Option<Key>,
        applied: u64,
    ) -> Result<Link, CarrierError> {
        let (number, outage) = (self.hello.link, self.hello.outage_ms);
        let theirs = self.backward.as_ref().map_or(0, |(_, said)| said.applied);
        let answer = |(mut tls, said): (Tls, Hello)| {
            let Holds { placing, image } = shared.holds;
            let hello = Hello { placing, image, applied, outage_ms: 0, ..said };
            say(&shared.config, session.as_ref(), &mut tls, &hello, false)?;
            tls.greeted().map_err(CarrierError::invalid)?;
            Ok(tls)
        };
        let incomplete = || CarrierError::invalid("a link without connections");
        let forward: Result<Vec<Tls>, CarrierError> =
            self.forward.into_iter().flatten().map(answer).collect();
        let backward = answer(self.backward.ok_or_else(incomplete)?)?;
        Ok(Link {
            number,
            forward: forward?,
            backward,
            placing: shared.holds.placing,
            image: shared.holds.image,
            round_trip: Duration::ZERO,
            applied: theirs,
            version: self.hello.version,
            outage: Duration::from_millis(outage.into()),
        })
    }
}
