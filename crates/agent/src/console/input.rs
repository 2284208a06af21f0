//! What is typed, on its way into QEMU.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Port, Source};

/// Frames that were typed and not yet written. A user's side sends no more than it
/// is told was taken.
const FRAMES: usize = 256;
/// QEMU's monitor answers before its sockets do.
const AGAIN: Duration = Duration::from_millis(100);

/// Begins to write into the VM; `None` where nothing may be typed.
pub(super) fn start(
    tasks: &mut JoinSet<()>,
    source: &Source,
    port: &Port,
    writer: bool,
    taken: mpsc::Sender<u64>,
) -> Option<mpsc::Sender<Vec<u8>>> {
    let socket = port.socket.clone().filter(|_| writer)?;
    let (keys, typed) = mpsc::channel(FRAMES);
    let port = source.port.subscribe();
    tasks.spawn(async move { write(socket, port, typed, taken).await });
    Some(keys)
}

/// Until the session ends: then this is dropped.
async fn write(
    socket: PathBuf,
    mut port: watch::Receiver<Option<Port>>,
    mut typed: mpsc::Receiver<Vec<u8>>,
    taken: mpsc::Sender<u64>,
) {
    let mut total = 0;
    loop {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let (from, mut to) = stream.into_split();
            tokio::select! {
                () = feed(&mut to, &mut port, &mut typed, &taken, &mut total) => return,
                () = drain(from) => {}
            }
        }
        sleep(AGAIN).await;
    }
}

async fn feed(
    to: &mut OwnedWriteHalf,
    port: &mut watch::Receiver<Option<Port>>,
    typed: &mut mpsc::Receiver<Vec<u8>>,
    taken: &mpsc::Sender<u64>,
    total: &mut u64,
) {
    while let Some(bytes) = typed.recv().await {
        // What is not taken here is typed again on the host the VM moves to.
        let free = |port: &Option<Port>| port.as_ref().is_some_and(|port| !port.hold);
        if port.wait_for(free).await.is_err() || to.write_all(&bytes).await.is_err() {
            // QEMU is gone, and the session ends too.
            std::future::pending::<()>().await;
        }
        *total += bytes.len() as u64;
        if taken.send(*total).await.is_err() {
            return;
        }
    }
}

/// What the VM writes comes from its log; here it is only in the way. Returns when
/// QEMU has closed the connection.
async fn drain(mut from: OwnedReadHalf) {
    let mut buffer = [0; 4096];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}
