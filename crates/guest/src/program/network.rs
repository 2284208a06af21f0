//! The roles `serve` and `beat`.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use godwit_guest::{Beat, SERVE_PORT};

use super::{Every, Guest, spawn};

/// Clients at the same time, for each port.
const CLIENTS: usize = 16;
/// How often a client gets its share.
const SHARE: Duration = Duration::from_millis(10);

/// Takes clients on a port, each in a thread of its own; further ones than
/// [`CLIENTS`] are turned away.
pub(super) fn listen(
    guest: &Arc<Guest>,
    port: u16,
    client: impl Fn(&Guest, TcpStream) + Copy + Send + 'static,
) -> Result<(), String> {
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|e| format!("port {port}: {e}"))?;
    let guest = Arc::clone(guest);
    let clients = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                clients.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let clients = Arc::clone(&clients);
            spawn(&guest, move |g| {
                client(g, stream);
                clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

/// The role `serve`: to each client 0, 1, 2 … as 64-bit little-endian numbers,
/// `rate` KiB each second.
pub(super) fn serve(guest: &Arc<Guest>, rate: u32) -> Result<(), String> {
    listen(guest, SERVE_PORT, move |guest, stream| {
        // The client has gone: nothing to do about it.
        let _ = count(guest, stream, rate);
    })
}

fn count(guest: &Guest, mut stream: TcpStream, rate: u32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let numbers = (u64::from(rate) * 1024 / 8 * SHARE.as_millis() as u64 / 1000).max(1);
    let mut every = Every::new(SHARE);
    let mut next = 0u64;
    loop {
        let share: Vec<u8> = (next..next + numbers).flat_map(u64::to_le_bytes).collect();
        stream.write_all(&share)?;
        next += numbers;
        guest.served.fetch_add(share.len() as u64, Ordering::Relaxed);
        every.wait();
    }
}

/// The role `beat`: a packet to the witness each `period`.
pub(super) fn beat(guest: &Arc<Guest>, to: SocketAddr, period: Duration) -> Result<(), String> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|e| format!("heartbeat: {e}"))?;
    spawn(guest, move |guest| {
        let mut every = Every::new(period);
        for counter in 0.. {
            let nanos = guest.started.elapsed().as_nanos() as u64;
            let packet = Beat { boot: guest.boot, counter, nanos }.encode();
            // A packet that finds no way is lost like any other.
            let _ = socket.send_to(&packet, to);
            guest.beats.store(counter + 1, Ordering::Relaxed);
            every.wait();
        }
    });
    Ok(())
}
