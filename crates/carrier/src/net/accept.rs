//! The destination's end: listens, and turns strangers away.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use api::tls::server_config;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use types::CarrierConfig;
use wire::Direction;

use super::greet::{check_hello, hello, identity, read_hello};
use super::{Counted, Session, Tls};
use crate::CarrierError;
use crate::control::Control;

/// How long the destination waits for the source.
const ARRIVAL: Duration = Duration::from_secs(120);
/// For handshake and hello of one connection.
const GREETING: Duration = Duration::from_secs(5);
/// Connections that may be greeted at once; more are closed.
const GUESTS: usize = 16;
const LOOK: Duration = Duration::from_millis(2);

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

/// What came of one greeting.
type Greeted = (SocketAddr, Result<(Tls, Direction), CarrierError>);

/// Greets each connection on a thread of its own, so that nobody keeps others waiting.
struct Door {
    config: Arc<CarrierConfig>,
    tls: Arc<ServerConfig>,
    placing: bool,
    sent: Arc<AtomicU64>,
    inside: usize,
    sender: Sender<Greeted>,
    greeted: Receiver<Greeted>,
}

/// Waits for both connections of the source's carrier. Strangers are turned away.
pub(crate) fn accept(
    config: &CarrierConfig,
    listener: &TcpListener,
    placing: bool,
    control: &Control,
) -> Result<Session, CarrierError> {
    let mut door = Door::new(config, placing)?;
    listener.set_nonblocking(true).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let deadline = Instant::now() + ARRIVAL;
    let (mut forward, mut backward) = (None, None);
    loop {
        if control.ended() {
            return Err(CarrierError::Ended);
        }
        if Instant::now() > deadline {
            let why = format!("the carrier of {} did not connect in time", config.peer);
            return Err(CarrierError::Peer(why));
        }
        if let Ok((stream, from)) = listener.accept() {
            door.open(stream, from);
        }
        match door.next() {
            Some((connection, Direction::Forward)) => forward = Some(connection),
            Some((connection, Direction::Backward)) => backward = Some(connection),
            None => {}
        }
        (forward, backward) = match (forward, backward) {
            (Some(forward), Some(backward)) => {
                let (round_trip, sent) = (Duration::ZERO, door.sent);
                return Ok(Session { forward, backward, placing, round_trip, sent });
            }
            others => others,
        };
    }
}

impl Door {
    fn new(config: &CarrierConfig, placing: bool) -> Result<Self, CarrierError> {
        let tls =
            server_config(&identity(config)).map_err(|e| CarrierError::Config(e.to_string()))?;
        let mut tls = (*tls).clone();
        // A session is used once. A ticket that nobody reads would also reset the connection.
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        let (sender, greeted) = channel();
        Ok(Self {
            config: Arc::new(config.clone()),
            tls: Arc::new(tls),
            placing,
            sent: Arc::default(),
            inside: 0,
            sender,
            greeted,
        })
    }

    fn open(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.inside >= GUESTS {
            tracing::warn!(%from, "too many connections at once; this one was closed");
            return;
        }
        self.inside += 1;
        let (config, tls, sent) = (self.config.clone(), self.tls.clone(), self.sent.clone());
        let (placing, sender) = (self.placing, self.sender.clone());
        thread::spawn(move || {
            let greeted = greet(&config, tls, stream, placing, &sent);
            let _ = sender.send((from, greeted));
        });
    }

    /// Waits a moment for a connection that has proved itself.
    fn next(&mut self) -> Option<(Tls, Direction)> {
        let (from, greeted) = self.greeted.recv_timeout(LOOK).ok()?;
        self.inside -= 1;
        match greeted {
            Ok(connection) => Some(connection),
            Err(error) => {
                tracing::warn!(%from, %error, "a connection was turned away");
                None
            }
        }
    }
}

fn greet(
    config: &CarrierConfig,
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    placing: bool,
    sent: &Arc<AtomicU64>,
) -> Result<(Tls, Direction), CarrierError> {
    let deadline = Instant::now() + GREETING;
    let mut server = ServerConnection::new(tls).map_err(CarrierError::invalid)?;
    server.set_buffer_limit(Some(1 << 20));
    let counted = Counted::new(stream, sent, deadline).map_err(CarrierError::invalid)?;
    let mut tls = Tls::Server(Box::new(StreamOwned::new(server, counted)));
    tls.handshake().map_err(CarrierError::invalid)?;
    let said = read_hello(&mut tls).map_err(CarrierError::invalid)?;
    check_hello(config, &tls, &said, said.direction, true)?;
    let answer = hello(config, &tls, said.direction, false, placing)?;
    tls.write_all(&answer.to_bytes()).and_then(|()| tls.flush()).map_err(CarrierError::invalid)?;
    tls.greeted().map_err(CarrierError::invalid)?;
    Ok((tls, said.direction))
}
