//! TLS connections between carriers, and frames on them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use wire::{HEADER, Header};

use crate::CarrierError;

mod accept;
mod connect;
mod greet;

pub(crate) use accept::{Door, Holds, listen};
pub(crate) use connect::Dialer;
pub(crate) use greet::{check_secret, image_key, parts_key};

/// Between two words of the other side, which speaks five times a second.
const SILENCE: Duration = Duration::from_secs(5);
/// A write may wait longer: the other side may be busy with what it has.
const STUCK: Duration = Duration::from_secs(30);

/// A TCP connection that counts what is written to it.
pub(crate) struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
    /// The greeting must be over by then, however it trickles in.
    deadline: Option<Instant>,
}

impl Counted {
    fn new(stream: TcpStream, sent: &Arc<AtomicU64>, deadline: Instant) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        Ok(Self { stream, sent: Arc::clone(sent), deadline: Some(deadline) })
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no greeting in time"));
            }
            self.stream.set_read_timeout(Some(left))?;
        }
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

    /// The greeting is over: from now on only silence ends the connection.
    fn greeted(&mut self) -> io::Result<()> {
        match self {
            Self::Client(s) => s.sock.deadline = None,
            Self::Server(s) => s.sock.deadline = None,
        }
        self.socket().set_read_timeout(Some(SILENCE))?;
        self.socket().set_write_timeout(Some(STUCK))
    }

    fn handshake(&mut self) -> io::Result<()> {
        match self {
            Self::Client(s) => s.conn.complete_io(&mut s.sock).map(|_| ()),
            Self::Server(s) => s.conn.complete_io(&mut s.sock).map(|_| ()),
        }
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
            Self::Client(s) => s.conn.export_keying_material([0; 32], greet::LABEL, Some(context)),
            Self::Server(s) => s.conn.export_keying_material([0; 32], greet::LABEL, Some(context)),
        }
    }
}

/// One set of connections of a session, and what was learnt in the greeting.
pub(crate) struct Link {
    /// Its number in the session, from 0.
    pub(crate) number: u32,
    /// Connections from source to destination; at least one.
    pub(crate) forward: Vec<Tls>,
    /// The connection from destination to source.
    pub(crate) backward: Tls,
    /// The destination places pages directly.
    pub(crate) placing: bool,
    /// The destination holds an image of the VM.
    pub(crate) image: bool,
    pub(crate) round_trip: Duration,
    /// What the other side has applied of our stream: we go on from there.
    pub(crate) applied: u64,
    /// The newest version that both sides speak.
    pub(crate) version: u16,
    /// From the source: how long it keeps the session over a broken link.
    pub(crate) outage: Duration,
}

impl Link {
    /// Ends its connections from another thread.
    pub(crate) fn breakers(&self) -> Vec<TcpStream> {
        let all = self.forward.iter().chain([&self.backward]);
        all.filter_map(|tls| tls.socket().try_clone().ok()).collect()
    }
}

/// The connections in use, to be broken under whoever is blocked in them.
#[derive(Clone, Default)]
pub(crate) struct Breakers(Arc<Mutex<Breaking>>);

#[derive(Default)]
struct Breaking {
    streams: Vec<TcpStream>,
    closed: bool,
}

impl Breakers {
    fn lock(&self) -> MutexGuard<'_, Breaking> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new link is in use.
    pub(crate) fn set(&self, link: &Link) {
        let mut breaking = self.lock();
        breaking.streams = link.breakers();
        if breaking.closed {
            breaking.shut();
        }
    }

    /// Breaks the link in use.
    pub(crate) fn shut(&self) {
        self.lock().shut();
    }

    /// Breaks this link and any that comes later.
    pub(crate) fn close(&self) {
        let mut breaking = self.lock();
        breaking.closed = true;
        breaking.shut();
    }
}

impl Breaking {
    fn shut(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
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
