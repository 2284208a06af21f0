//! The connection: one task reads, one writes, clones ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::event::happened;
use crate::{Event, Events, QmpError};

/// The schema is the longest line, about 300 KiB.
const LONGEST_LINE: u64 = 16 << 20;
/// Events kept for a reader that is slow.
const EVENTS: usize = 256;
/// Commands in flight at once.
const IN_FLIGHT: usize = 64;
const LIMIT: Duration = Duration::from_secs(10);

type Answer = Result<Value, (String, String)>;

/// A client; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whole lines: whoever gives up waiting never leaves half of one behind.
    lines: mpsc::Sender<String>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    events: Mutex<Option<broadcast::WeakSender<Event>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
}

impl Client {
    /// Connects and leaves the capabilities negotiation behind.
    ///
    /// # Errors
    /// The socket refuses, or what answers is no monitor, all within `limit`.
    pub async fn connect(socket: &Path, limit: Duration) -> Result<(Self, Events), QmpError> {
        let late = |_| QmpError::Late { command: "connect".into(), limit };
        tokio::time::timeout(limit, Self::connect_all(socket)).await.map_err(late)?
    }

    async fn connect_all(socket: &Path) -> Result<(Self, Events), QmpError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| QmpError::Connect { socket: socket.display().to_string(), source })?;
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = read_line(&mut reader).await?.ok_or(QmpError::Disconnected)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Garbled("no greeting".into()));
        }
        let (events, receiver) = broadcast::channel(EVENTS);
        let (lines, outbox) = mpsc::channel(IN_FLIGHT);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let shared = Arc::new(Shared {
            lines,
            waiting: waiting.clone(),
            next: AtomicU64::new(1),
            events: Mutex::new(Some(events.downgrade())),
        });
        tokio::spawn(read(reader, waiting, events));
        tokio::spawn(write(writer, outbox));
        let client = Self { shared };
        client.execute("qmp_capabilities", Value::Null).await?;
        Ok((client, Events(receiver)))
    }

    /// Another reader of events, from now on; `None` if QEMU has closed its monitor.
    pub fn events(&self) -> Option<Events> {
        let events = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = events.as_ref()?.upgrade()?;
        Some(Events(sender.subscribe()))
    }

    /// Executes a command. `arguments` is an object, or `Null` for none.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, LIMIT).await
    }

    /// Like [`Self::execute`] with a time limit of the caller's.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn execute_within(
        &self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let (ticket, answer) = self.enter(command)?;
        tracing::trace!(target: "point", place = "qmp", name = command, when = "before");
        let exchange = async {
            self.send(ticket.id, command, arguments).await?;
            answer.await.map_err(|_| QmpError::Disconnected)
        };
        let outcome = tokio::time::timeout(limit, exchange).await;
        tracing::trace!(target: "point", place = "qmp", name = command, when = "after");
        match outcome {
            Err(_) => Err(QmpError::Late { command: command.to_owned(), limit }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err((class, description)))) => {
                Err(QmpError::Refused { command: command.to_owned(), class, description })
            }
        }
    }

    /// A place among those who wait for an answer.
    fn enter(&self, command: &str) -> Result<(Ticket, oneshot::Receiver<Answer>), QmpError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(QmpError::Disconnected);
        }
        if waiting.answers.len() >= IN_FLIGHT {
            return Err(QmpError::Busy { command: command.to_owned(), waiting: IN_FLIGHT });
        }
        waiting.answers.insert(id, sender);
        Ok((Ticket { id, waiting: self.shared.waiting.clone() }, answer))
    }

    async fn send(&self, id: u64, command: &str, arguments: Value) -> Result<(), QmpError> {
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let sent = self.shared.lines.send(format!("{message}\n")).await;
        sent.map_err(|_| QmpError::Disconnected)
    }
}

/// One command that waits; given back however the waiting ends, also when its
/// future is dropped.
struct Ticket {
    id: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.answers.remove(&self.id);
    }
}

/// Writes until the last client is gone or QEMU does not listen any more.
async fn write(mut writer: OwnedWriteHalf, mut outbox: mpsc::Receiver<String>) {
    while let Some(line) = outbox.recv().await {
        if writer.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
}

/// Reads for ever; answers find their command, events their readers.
async fn read(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Mutex<Waiting>>,
    events: broadcast::Sender<Event>,
) {
    loop {
        let line = match read_line(&mut reader).await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "monitor given up");
                break;
            }
        };
        if let Some(name) = line.get("event").and_then(Value::as_str) {
            let data = line.get("data").cloned().unwrap_or(Value::Null);
            let at = happened(line.get("timestamp"));
            tracing::trace!(target: "point", place = "event", name, when = "before");
            // Nobody may be listening; that is fine.
            let _ = events.send(Event::Named { name: name.to_owned(), data, at });
            continue;
        }
        let Some(id) = line.get("id").and_then(Value::as_u64) else { continue };
        let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).answers.remove(&id);
        if let Some(sender) = sender {
            let _ = sender.send(answer(line));
        }
    }
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.closed = true;
    waiting.answers.clear();
}

fn answer(mut line: Value) -> Answer {
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("unknown").to_owned();
    match line.get("error") {
        Some(error) => Err((text(error.get("class")), text(error.get("desc")))),
        None => Ok(line.get_mut("return").map(Value::take).unwrap_or(Value::Null)),
    }
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Value>, QmpError> {
    let mut line = Vec::new();
    let read = reader.take(LONGEST_LINE).read_until(b'\n', &mut line).await;
    match read {
        Ok(0) | Err(_) => Ok(None),
        Ok(_) if line.last() != Some(&b'\n') => {
            Err(QmpError::Garbled("a line without an end".into()))
        }
        Ok(_) => serde_json::from_slice(&line)
            .map(Some)
            .map_err(|e| QmpError::Garbled(format!("no JSON: {e}"))),
    }
}
