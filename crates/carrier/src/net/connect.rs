//! The source's end: connects to the destination's carrier.

use std::io::{self, Write};
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
use wire::{Direction, Hello};

use super::greet::{check_hello, hello, identity, read_hello};
use super::{Counted, Session, Tls};
use crate::CarrierError;

/// For connecting, handshakes and hellos together.
const GREETING: Duration = Duration::from_secs(10);

/// Connects to the destination's carrier, both ways.
pub(crate) fn connect(config: &CarrierConfig, address: &str) -> Result<Session, CarrierError> {
    let mut tls = (*client_config(&identity(config))
        .map_err(|e| CarrierError::Config(e.to_string()))?)
    .clone();
    tls.resumption = Resumption::disabled();
    let tls = Arc::new(tls);
    let sent = Arc::new(AtomicU64::new(0));
    let deadline = Instant::now() + GREETING;
    let open = |direction| {
        open(config, &tls, address, direction, &sent, deadline).map_err(|why| {
            CarrierError::Peer(format!("the carrier of {} at {address}: {why}", config.peer))
        })
    };
    let (forward, answer, first) = open(Direction::Forward)?;
    let (backward, _, second) = open(Direction::Backward)?;
    let round_trip = first.min(second);
    Ok(Session { forward, backward, placing: answer.placing, round_trip, sent })
}

/// One connection: what the other side answered, and how long that took.
fn open(
    config: &CarrierConfig,
    tls: &Arc<ClientConfig>,
    address: &str,
    direction: Direction,
    sent: &Arc<AtomicU64>,
    deadline: Instant,
) -> Result<(Tls, Hello, Duration), Box<dyn std::error::Error>> {
    let stream = connect_tcp(address, deadline)?;
    let name = ServerName::try_from(format!("{}.host.godwit", config.peer))?;
    let client = ClientConnection::new(Arc::clone(tls), name)?;
    let counted = Counted::new(stream, sent, deadline)?;
    let mut tls = Tls::Client(Box::new(StreamOwned::new(client, counted)));
    tls.handshake()?;
    let hello = hello(config, &tls, direction, true, false)?;
    let asked = Instant::now();
    tls.write_all(&hello.to_bytes())?;
    tls.flush()?;
    let answer = read_hello(&mut tls)?;
    let took = asked.elapsed();
    check_hello(config, &tls, &answer, direction, false)?;
    tls.greeted()?;
    Ok((tls, answer, took))
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
            Err(e) if Instant::now() + Duration::from_millis(200) > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
