//! The agent's end of a carrier's control socket.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use types::{CarrierCommand, CarrierEvent};
use vmm::{Hypervisor, InstanceRecord};

/// Sends commands; events arrive at the receiver given by [`connect`].
pub(crate) struct CarrierLink {
    writer: OwnedWriteHalf,
}

/// An event is at most a note of 4 KiB and its frame.
const LONGEST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to the carrier of `instance`, waiting a moment for one that has only just
/// been started, and not for one that has ended.
/// The events end when the carrier's process does.
pub(crate) async fn connect(
    hypervisor: &Hypervisor,
    instance: &InstanceRecord,
) -> Result<(CarrierLink, mpsc::Receiver<CarrierEvent>), String> {
    let socket = instance.carrier_control();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let stream = loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => break stream,
            Err(_) if !hypervisor.carrier_alive(instance) => {
                return Err("the carrier ended before it was heard".into());
            }
            Err(e) if tokio::time::Instant::now() > deadline => {
                return Err(format!("the carrier does not answer on its socket: {e}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let (reader, writer) = stream.into_split();
    let (events, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = String::new();
            match (&mut reader).take(LONGEST).read_line(&mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let event = serde_json::from_str(&line).unwrap_or_else(|e| CarrierEvent::Failed {
                reason: format!("the carrier said something unknown: {e}"),
            });
            if events.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok((CarrierLink { writer }, receiver))
}

impl CarrierLink {
    pub(crate) async fn send(&mut self, command: &CarrierCommand) -> Result<(), String> {
        let mut line = serde_json::to_vec(command).map_err(|e| e.to_string())?;
        line.push(b'\n');
        match tokio::time::timeout(PATIENCE, self.writer.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("the carrier is gone: {e}")),
            Err(_) => Err("the carrier does not read its commands".into()),
        }
    }
}
