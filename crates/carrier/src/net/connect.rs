//! The source's end: connects to the destination's carrier, and again after each break.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use api::tls::client_config;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use types::CarrierConfig;
use wire::{Direction, Hello, HelloError};

use super::greet::{Key, hear, identity, say, session_key};
use super::{Counted, Link, Tls};
use crate::CarrierError;

/// For connecting, handshakes and hellos of one link together.
const GREETING: Duration = Duration::from_secs(10);
/// The beginning is tried so often: the first connections may break too.
const BEGINNINGS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Makes the links of one session.
pub(crate) struct Dialer {
    config: CarrierConfig,
    address: String,
    tls: Arc<ClientConfig>,
    sent: Arc<AtomicU64>,
    /// Connections from here to the destination.
    lanes: u8,
    outage: Duration,
    session: Option<Key>,
    next: u32,
}

impl Dialer {
    pub(crate) fn new(
        config: &CarrierConfig,
        address: &str,
        lanes: u8,
        outage: Duration,
    ) -> Result<Self, CarrierError> {
        let mut tls = (*client_config(&identity(config))
            .map_err(|e| CarrierError::Config(e.to_string()))?)
        .clone();
        tls.resumption = Resumption::disabled();
        Ok(Self {
            config: config.clone(),
            address: address.to_owned(),
            tls: Arc::new(tls),
            sent: Arc::default(),
            lanes,
            outage,
            session: None,
            next: 0,
        })
    }

    /// Counts the bytes written to all links.
    pub(crate) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// The first link.
    pub(crate) fn begin(&mut self) -> Result<Link, CarrierError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.link(0, Instant::now() + GREETING) {
                Err(CarrierError::Connection { .. }) if tries < BEGINNINGS => thread::sleep(PAUSE),
                Err(CarrierError::Connection { peer, why }) => {
                    return Err(CarrierError::Peer(format!("{peer}: {why}")));
                }
                result => return result,
            }
        }
    }

    /// A further link; `applied` is what we have applied of the other side's stream.
    pub(crate) fn resume(&mut self, applied: u64, until: Instant) -> Result<Link, CarrierError> {
        self.link(applied, until.min(Instant::now() + GREETING))
    }

    fn link(&mut self, applied: u64, deadline: Instant) -> Result<Link, CarrierError> {
        let number = self.next;
        if self.session.is_some() {
            // A link that was not made leaves a gap; the other side minds no gaps.
            self.next = number.saturating_add(1);
        }
        let hello = |direction, lane, lanes| Hello {
            attempt: self.config.attempt,
            direction,
            lane,
            lanes,
            placing: false,
            image: false,
            link: number,
            applied,
            outage_ms: u32::try_from(self.outage.as_millis()).unwrap_or(u32::MAX),
            version: wire::NEWEST,
        };
        let mut forward = Vec::new();
        for lane in 0..self.lanes {
            forward.push(self.open(&hello(Direction::Forward, lane, self.lanes), deadline)?);
        }
        let asked = Instant::now();
        let mut backward = self.open(&hello(Direction::Backward, 0, 1), deadline)?;
        let answer = self.answer(&mut backward, Direction::Backward, number)?;
        let round_trip = asked.elapsed();
        for lane in &mut forward {
            self.answer(lane, Direction::Forward, number)?;
        }
        if number == 0 {
            self.session = forward.first().map(|f| session_key(&self.config, f)).transpose()?;
            self.next = 1;
        }
        Ok(Link {
            number,
            forward,
            backward,
            placing: answer.placing,
            image: answer.image,
            round_trip,
            applied: answer.applied,
            version: answer.version,
            outage: self.outage,
        })
    }

    fn open(&self, hello: &Hello, deadline: Instant) -> Result<Tls, CarrierError> {
        let mut tls = self.connect(deadline).map_err(|e| self.broken(&e))?;
        say(&self.config, self.session.as_ref(), &mut tls, hello, true)?;
        Ok(tls)
    }

    fn connect(&self, deadline: Instant) -> io::Result<Tls> {
        let stream = connect_tcp(&self.address, deadline)?;
        let name = format!("{}.host.godwit", self.config.peer);
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let client =
            ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let counted = Counted::new(stream, &self.sent, deadline)?;
        let mut tls = Tls::Client(Box::new(StreamOwned::new(client, counted)));
        tls.handshake()?;
        Ok(tls)
    }

    fn answer(
        &self,
        tls: &mut Tls,
        direction: Direction,
        link: u32,
    ) -> Result<Hello, CarrierError> {
        let answer =
            hear(&self.config, self.session.as_ref(), tls, false).map_err(|e| self.broken(&e))?;
        if answer.direction != direction || answer.link != link {
            return Err(CarrierError::invalid(HelloError::Malformed));
        }
        tls.greeted().map_err(|e| self.broken(&e))?;
        Ok(answer)
    }

    fn broken(&self, why: &dyn ToString) -> CarrierError {
        let peer = format!("the carrier of {} at {}", self.config.peer, self.address);
        CarrierError::Connection { peer, why: why.to_string() }
    }
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
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() + PAUSE > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
