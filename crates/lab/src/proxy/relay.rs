//! Forwarding of one TCP connection under rules that change while it lives.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::rules::{FrontState, Rules};

/// Kernel buffers on either side. Left to themselves they grow to megabytes,
/// which would lengthen every switchover by the time it takes to drain them.
const SOCKET_BUFFER: u32 = 256 << 10;
/// Bytes moved at a time.
const PIECE: usize = 64 << 10;
/// Connections to a host at the same time; further ones are reset.
const MOST_OPEN: u64 = 256;
const CONNECT: Duration = Duration::from_secs(10);

/// Accepts and forwards on one port for ever.
pub(super) async fn listen(address: SocketAddr, target: SocketAddr, front: Arc<FrontState>) {
    let mut rules = front.rules.subscribe();
    loop {
        until(&mut rules, |rules| !rules.refuse).await;
        match bind(address) {
            Ok(listener) => accept(&listener, target, &front, &mut rules).await,
            Err(e) => {
                eprintln!("proxy: cannot listen on {address}: {e}; trying again");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

fn socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    Ok(socket)
}

/// Accepts until connections are to be refused; then nobody listens.
async fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    front: &Arc<FrontState>,
    rules: &mut watch::Receiver<Rules>,
) {
    loop {
        tokio::select! {
            () = until(rules, |rules| rules.refuse) => return,
            accepted = listener.accept() => match accepted {
                Ok((inbound, _)) if front.counts.open.load(Relaxed) < MOST_OPEN => {
                    tokio::spawn(serve(inbound, target, front.clone()));
                }
                Ok((inbound, _)) => drop(reset_on_drop(&inbound)),
                // Such as too many open files: not to spin on it.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn serve(inbound: TcpStream, target: SocketAddr, front: Arc<FrontState>) {
    front.counts.accepted.fetch_add(1, Relaxed);
    front.counts.open.fetch_add(1, Relaxed);
    let mut rules = front.rules.subscribe();
    let resets = rules.borrow().resets;
    // Whatever ends this early drops the connections, which resets them.
    tokio::select! {
        () = until(&mut rules, |rules| rules.resets != resets) => {}
        _ = forward(inbound, target, &front) => {}
    }
    front.counts.open.fetch_sub(1, Relaxed);
}

/// Forwards until both sides have ended, or fails as either side fails.
async fn forward(inbound: TcpStream, target: SocketAddr, front: &FrontState) -> io::Result<()> {
    reset_on_drop(&inbound)?;
    let mut rules = front.rules.subscribe();
    until(&mut rules, |rules| !rules.cut).await;
    let outbound = timeout(CONNECT, socket()?.connect(target)).await??;
    reset_on_drop(&outbound)?;
    inbound.set_nodelay(true)?;
    outbound.set_nodelay(true)?;
    let counts = &front.counts;
    tokio::try_join!(
        pump(&inbound, &outbound, rules.clone(), &counts.to_host),
        pump(&outbound, &inbound, rules.clone(), &counts.from_host),
    )?;
    set_socket_linger(&inbound, None)?;
    set_socket_linger(&outbound, None)?;
    Ok(())
}

/// Waits for rules of a kind. The sender lives as long as the front, which whoever
/// waits here holds.
async fn until(rules: &mut watch::Receiver<Rules>, kind: impl Fn(&Rules) -> bool) {
    let _ = rules.wait_for(kind).await;
}

fn reset_on_drop(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// Bytes on their way, each piece with the time from which it may go on.
#[derive(Default)]
struct Waiting {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first piece that went on already.
    gone: usize,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, due: Instant, piece: &[u8]) {
        self.bytes += piece.len();
        self.pieces.push_back((due, piece.to_vec()));
    }

    fn first(&self) -> Option<(Instant, &[u8])> {
        self.pieces.front().map(|(due, piece)| (*due, piece.get(self.gone..).unwrap_or_default()))
    }

    fn take(&mut self, count: usize) {
        self.gone += count;
        self.bytes -= count;
        if self.pieces.front().is_some_and(|(_, piece)| self.gone >= piece.len()) {
            self.pieces.pop_front();
            self.gone = 0;
        }
    }
}

/// Moves one direction until its end, which it passes on.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    mut watched: watch::Receiver<Rules>,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut waiting = Waiting::default();
    let mut piece = vec![0; PIECE];
    let mut ended = false;
    loop {
        let rules = *watched.borrow_and_update();
        if ended && waiting.bytes == 0 {
            return shutdown(to);
        }
        let due = waiting.first().map(|(due, _)| due);
        let prompt = due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            changed = watched.changed() => {
                changed.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            }
            ready = to.writable(), if prompt && !rules.cut => {
                ready?;
                send(&mut waiting, to, count)?;
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !prompt => {}
            ready = from.readable(), if !ended && !rules.cut && waiting.bytes < rules.room() => {
                ready?;
                let Some(taken) = would_block(from.try_read(&mut piece))? else { continue };
                ended = taken == 0;
                if taken > 0 {
                    waiting.push(Instant::now() + rules.delay, &piece[..taken]);
                    if rules.delay.is_zero() {
                        send(&mut waiting, to, count)?;
                    }
                }
            }
        }
    }
}

/// Sends what is due until it would block.
fn send(waiting: &mut Waiting, to: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    let now = Instant::now();
    while let Some((_, piece)) = waiting.first().filter(|(due, _)| *due <= now) {
        let Some(sent) = would_block(to.try_write(piece))? else { break };
        count.fetch_add(sent as u64, Relaxed);
        waiting.take(sent);
    }
    Ok(())
}

fn would_block(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

/// Passes an end of stream on; the other direction goes on.
fn shutdown(to: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(to, rustix::net::Shutdown::Write) {
        // Ended by the other side already.
        Err(rustix::io::Errno::NOTCONN) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
