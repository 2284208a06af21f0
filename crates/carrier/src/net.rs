//! TLS connections between carriers, and frames on them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use api::peer::{Peer, Role};
use api::tls::{Identity, client_config, server_config};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use types::CarrierConfig;
use wire::{Direction, HEADER, HELLO, Header, Hello, HelloError};

use crate::CarrierError;
use crate::control::Control;

/// Between two words of the other side (it is pinged five times a second).
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// For connecting, handshake and hello together.
const GREETING: Duration = Duration::from_secs(10);
/// How long the destination waits for the source.
const ARRIVAL: Duration = Duration::from_secs(120);
const LABEL: &[u8] = b"EXPORTER-godwit-carrier";

/// A TCP connection that counts what is written to it.
pub(crate) struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.stream.write(bytes)?;
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let n = self.stream.write_vectored(bytes)?;
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// One TLS connection.
pub(crate) enum Tls {
    Client(Box<StreamOwned<ClientConnection, Counted>>),
    Server(Box<StreamOwned<ServerConnection, Counted>>),
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Client(s) => s.read(buffer),
            Self::Server(s) => s.read(buffer),
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Client(s) => s.write(bytes),
            Self::Server(s) => s.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Client(s) => s.flush(),
            Self::Server(s) => s.flush(),
        }
    }
}

impl Tls {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Client(s) => &s.sock.stream,
            Self::Server(s) => &s.sock.stream,
        }
    }

    /// Ends the connection from another thread.
    pub(crate) fn breaker(&self) -> io::Result<Breaker> {
        Ok(Breaker(self.socket().try_clone()?))
    }

    fn set_limits(&self, limit: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(limit))?;
        self.socket().set_write_timeout(Some(limit))
    }

    fn certificate(&self) -> Option<CertificateDer<'static>> {
        let certificates = match self {
            Self::Client(s) => s.conn.peer_certificates(),
            Self::Server(s) => s.conn.peer_certificates(),
        };
        Some(certificates?.first()?.clone().into_owned())
    }

    fn export(&self, context: &[u8]) -> Result<[u8; 32], rustls::Error> {
        match self {
            Self::Client(s) => s.conn.export_keying_material([0; 32], LABEL, Some(context)),
            Self::Server(s) => s.conn.export_keying_material([0; 32], LABEL, Some(context)),
        }
    }
}

/// Shuts a connection that another thread is blocked in.
pub(crate) struct Breaker(TcpStream);

impl Breaker {
    pub(crate) fn shut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Both connections of a session, and what was learnt in the greeting.
pub(crate) struct Session {
    pub(crate) forward: Tls,
    pub(crate) backward: Tls,
    /// The destination places pages directly.
    pub(crate) placing: bool,
    pub(crate) round_trip: Duration,
    pub(crate) sent: Arc<AtomicU64>,
}

fn identity(config: &CarrierConfig) -> Identity {
    Identity { ca: config.ca.clone(), cert: config.cert.clone(), key: config.key.clone() }
}

/// Connects to the destination's carrier, both ways.
pub(crate) fn connect(config: &CarrierConfig, address: &str) -> Result<Session, CarrierError> {
    let peer = |e: &dyn ToString| {
        CarrierError::Peer(format!(
            "the carrier of {} at {address}: {}",
            config.peer,
            e.to_string()
        ))
    };
    let tls = client_config(&identity(config)).map_err(|e| CarrierError::Config(e.to_string()))?;
    let name = format!("{}.host.godwit", config.peer);
    let sent = Arc::new(AtomicU64::new(0));
    let deadline = Instant::now() + GREETING;
    let open = |direction| -> Result<(Tls, Hello, Duration), CarrierError> {
        let stream = connect_tcp(address, deadline).map_err(|e| peer(&e))?;
        let name = ServerName::try_from(name.clone()).map_err(|e| peer(&e))?;
        let conn = ClientConnection::new(tls.clone(), name).map_err(|e| peer(&e))?;
        let counted = Counted { stream, sent: sent.clone() };
        let mut tls = Tls::Client(Box::new(StreamOwned::new(conn, counted)));
        let greet = |tls: &mut Tls| -> Result<(Hello, Duration), CarrierError> {
            handshake(tls).map_err(|e| peer(&e))?;
            let hello = hello(config, tls, direction, true, false)?;
            let asked = Instant::now();
            tls.write_all(&hello.to_bytes()).and_then(|()| tls.flush()).map_err(|e| peer(&e))?;
            let answer = read_hello(tls).map_err(|e| peer(&e))?;
            check_hello(config, tls, &answer, direction, false).map_err(|e| peer(&e))?;
            Ok((answer, asked.elapsed()))
        };
        let (answer, took) = greet(&mut tls)?;
        tls.set_limits(SILENCE).map_err(|e| peer(&e))?;
        Ok((tls, answer, took))
    };
    let (forward, answer, first) = open(Direction::Forward)?;
    let (backward, _, second) = open(Direction::Backward)?;
    let round_trip = first.min(second);
    Ok(Session { forward, backward, placing: answer.placing, round_trip, sent })
}

fn connect_tcp(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let address: SocketAddr = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the address names no host"))?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"));
        }
        match TcpStream::connect_timeout(&address, left.min(Duration::from_secs(3))) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(GREETING))?;
                stream.set_write_timeout(Some(GREETING))?;
                return Ok(stream);
            }
            Err(e) if Instant::now() + Duration::from_millis(200) > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn handshake(tls: &mut Tls) -> io::Result<()> {
    match tls {
        Tls::Client(s) => s.conn.complete_io(&mut s.sock).map(|_| ()),
        Tls::Server(s) => s.conn.complete_io(&mut s.sock).map(|_| ()),
    }
}

/// The proof: BLAKE3 keyed with the secret, over what this TLS connection alone exports.
fn hello(
    config: &CarrierConfig,
    tls: &Tls,
    direction: Direction,
    from_source: bool,
    placing: bool,
) -> Result<Hello, CarrierError> {
    let secret = blake3::Hash::from_hex(&config.secret)
        .map_err(|_| CarrierError::Config("secret: must be 64 hexadecimal digits".into()))?;
    let context = Hello::context(config.attempt, direction, from_source);
    let exported = tls.export(&context).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let proof = *blake3::keyed_hash(secret.as_bytes(), &exported).as_bytes();
    Ok(Hello { attempt: config.attempt, direction, placing, proof })
}

fn read_hello(tls: &mut Tls) -> io::Result<Hello> {
    let mut bytes = [0; HELLO];
    tls.read_exact(&mut bytes)?;
    Hello::read(&bytes).map_err(io::Error::other)
}

fn check_hello(
    config: &CarrierConfig,
    tls: &Tls,
    said: &Hello,
    direction: Direction,
    from_source: bool,
) -> Result<(), CarrierError> {
    let certificate = tls.certificate().ok_or_else(|| CarrierError::invalid("no certificate"))?;
    let peer = Peer::of(&certificate).map_err(CarrierError::invalid)?;
    if peer.role != Role::Host || peer.name != config.peer.as_str() {
        return Err(CarrierError::Peer(format!(
            "the certificate names {}, not host {}",
            peer.name, config.peer
        )));
    }
    if said.attempt != config.attempt {
        return Err(CarrierError::invalid(HelloError::Attempt(said.attempt)));
    }
    let due = hello(config, tls, direction, from_source, said.placing)?;
    // In constant time: `blake3::Hash` compares so.
    let same = blake3::Hash::from_bytes(due.proof) == blake3::Hash::from_bytes(said.proof);
    if said.direction != direction || !same {
        return Err(CarrierError::invalid(HelloError::Proof));
    }
    Ok(())
}

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

/// Waits for both connections of the source's carrier. Strangers are turned away.
pub(crate) fn accept(
    config: &CarrierConfig,
    listener: &TcpListener,
    placing: bool,
    control: &Control,
) -> Result<Session, CarrierError> {
    let tls = server_config(&identity(config)).map_err(|e| CarrierError::Config(e.to_string()))?;
    listener.set_nonblocking(true).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let deadline = Instant::now() + ARRIVAL;
    let sent = Arc::new(AtomicU64::new(0));
    let (mut forward, mut backward) = (None, None);
    loop {
        if control.ended() {
            return Err(CarrierError::Ended);
        }
        if Instant::now() > deadline {
            let why = format!("the carrier of {} did not connect in time", config.peer);
            return Err(CarrierError::Peer(why));
        }
        let Ok((stream, from)) = listener.accept() else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        match greet(config, &tls, stream, placing, &sent) {
            Ok((connection, Direction::Forward)) => forward = Some(connection),
            Ok((connection, Direction::Backward)) => backward = Some(connection),
            Err(error) => tracing::warn!(%from, %error, "a connection was turned away"),
        }
        if let (Some(_), Some(_)) = (&forward, &backward)
            && let (Some(forward), Some(backward)) = (forward.take(), backward.take())
        {
            return Ok(Session { forward, backward, placing, round_trip: Duration::ZERO, sent });
        }
    }
}

fn greet(
    config: &CarrierConfig,
    tls: &Arc<rustls::ServerConfig>,
    stream: TcpStream,
    placing: bool,
    sent: &Arc<AtomicU64>,
) -> Result<(Tls, Direction), CarrierError> {
    let limit = Duration::from_secs(5);
    let prepare = || {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))
    };
    prepare().map_err(CarrierError::invalid)?;
    let mut server = ServerConnection::new(tls.clone()).map_err(CarrierError::invalid)?;
    server.set_buffer_limit(Some(1 << 20));
    let counted = Counted { stream, sent: sent.clone() };
    let mut tls = Tls::Server(Box::new(StreamOwned::new(server, counted)));
    handshake(&mut tls).map_err(CarrierError::invalid)?;
    let said = read_hello(&mut tls).map_err(CarrierError::invalid)?;
    check_hello(config, &tls, &said, said.direction, true)?;
    let answer = hello(config, &tls, said.direction, false, placing)?;
    tls.write_all(&answer.to_bytes()).and_then(|()| tls.flush()).map_err(CarrierError::invalid)?;
    tls.set_limits(SILENCE).map_err(CarrierError::invalid)?;
    Ok((tls, said.direction))
}

/// Reads one frame; its payload replaces what is in `payload`.
pub(crate) fn read_frame(
    input: &mut impl Read,
    payload: &mut Vec<u8>,
    peer: &str,
) -> Result<Header, CarrierError> {
    let mut bytes = [0; HEADER];
    input.read_exact(&mut bytes).map_err(|e| CarrierError::connection(peer, &e))?;
    let header = Header::read(&bytes).map_err(CarrierError::invalid)?;
    payload.resize(header.length as usize, 0);
    input.read_exact(payload).map_err(|e| CarrierError::connection(peer, &e))?;
    Ok(header)
}
