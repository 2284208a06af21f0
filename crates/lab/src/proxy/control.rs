//! Commands to the proxy: lines of JSON on a unix socket.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::rules::{Fronts, Reply};
use crate::LabError;

/// Longest line that is read.
const LONGEST: u64 = 4096;

/// Answers requests; returns only with an error.
pub(super) async fn serve(socket: &Path, fronts: Fronts) -> Result<(), LabError> {
    // Left by an earlier proxy; two never run in one lab directory.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(LabError::file("listen on", socket))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(LabError::file("accept on", socket))?;
        tokio::spawn(answer(stream, fronts.clone()));
    }
}

/// Answers one caller until it goes away or says something too long.
async fn answer(stream: UnixStream, fronts: Fronts) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = (&mut read).take(LONGEST).read_until(b'\n', &mut line).await;
        if !matches!(taken, Ok(n) if n > 0) || line.last() != Some(&b'\n') {
            return;
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => fronts.handle(request),
            Err(e) => Reply::Error(format!("not a request: {e}")),
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}
