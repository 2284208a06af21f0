//! Points: moments at which a program of the fleet tells whoever makes faults
//! where it is, and waits for leave to go on.
//!
//! The programs mark such moments with trace events of the target `point`: each
//! write to a journal, request, QMP command and event, carrier's event and store
//! transaction, before and after. Nothing listens to them in ordinary use. Where
//! [`SOCKET`] is set, [`layer`] turns each into a line on that socket and waits
//! for an answer, so that a process can be killed, stopped or cut off exactly there.

use std::fmt::{Debug, Write as _};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::LabError;

/// Names the socket in a program's environment.
pub const SOCKET: &str = "GODWIT_POINTS";

/// Target of the events that are points.
const TARGET: &str = "point";

/// Longest that a program waits for leave: whoever makes faults may have gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program's word that it has come to a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The process.
    pub pid: u32,
    /// `PROGRAM:PLACE:NAME:WHEN`, such as `agent:journal:source-Handing:before`.
    pub point: String,
}

/// Tells of points, where the environment names a socket.
pub fn layer<S>(program: &'static str) -> Option<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let socket = PathBuf::from(std::env::var_os(SOCKET)?);
    let teller = Teller { program, socket, stream: Mutex::default() };
    Some(teller.with_filter(filter_fn(|about| about.target() == TARGET)))
}

struct Teller {
    program: &'static str,
    socket: PathBuf,
    stream: Mutex<Vec<BufReader<UnixStream>>>,
}

impl<S: Subscriber> Layer<S> for Teller {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut point = Point::default();
        event.record(&mut point);
        let Point { place, name, when } = point;
        // Nobody listens any more: the program goes on as it would without us.
        let _ = self.tell(&format!("{}:{place}:{name}:{when}", self.program));
    }
}

impl Teller {
    /// Each thread that tells at the same time has a connection of its own: one
    /// that waits keeps no other waiting.
    fn tell(&self, point: &str) -> std::io::Result<()> {
        let kept = self.stream.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(format!("{} {point}\n", std::process::id()).as_bytes())?;
        let mut leave = String::new();
        if stream.read_line(&mut leave)? > 0 {
            self.stream.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        Ok(())
    }
}

/// The fields of a point.
#[derive(Default)]
struct Point {
    place: String,
    name: String,
    when: String,
}

impl Visit for Point {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let place = match field.name() {
            "place" => &mut self.place,
            "name" => &mut self.name,
            "when" => &mut self.when,
            _ => return,
        };
        // Writing to a string does not fail.
        let _ = write!(place, "{value:?}");
    }
}

/// Hears programs that come to points.
#[derive(Debug)]
pub struct Points {
    socket: PathBuf,
}

impl Points {
    /// Listens on a new socket. `reached` is called for each point, on a thread of
    /// the process that came to it, which goes on when `reached` returns.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(
        socket: &Path,
        reached: impl Fn(Reached) + Send + Sync + 'static,
    ) -> Result<Self, LabError> {
        let listener = UnixListener::bind(socket).map_err(LabError::file("listen on", socket))?;
        let reached: Arc<dyn Fn(Reached) + Send + Sync> = Arc::new(reached);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reached = Arc::clone(&reached);
                std::thread::spawn(move || serve(stream, &*reached));
            }
        });
        Ok(Self { socket: socket.to_owned() })
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(stream: UnixStream, reached: &(dyn Fn(Reached) + Send + Sync)) {
    let Ok(mut answers) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while matches!(lines.read_line(&mut line), Ok(n) if n > 0) {
        if let Some((pid, point)) = line.trim_end().split_once(' ')
            && let Ok(pid) = pid.parse()
        {
            reached(Reached { pid, point: point.to_owned() });
        }
        if answers.write_all(b"\n").is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_program_waits_at_a_point_for_leave() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("points");
        let (told, hear) = mpsc::channel();
        let (leave, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let points = Points::listen(&socket, move |reached| {
            told.send(reached).unwrap();
            wait.lock().unwrap().recv().unwrap();
        })
        .unwrap();
        let teller = Teller { program: "agent", socket: socket.clone(), stream: Mutex::default() };
        let subscriber = tracing_subscriber::registry().with(teller);
        let program = std::thread::spawn(move || {
            tracing::subscriber::with_default(subscriber, || {
                let name = "source-Handing".to_owned();
                tracing::trace!(target: "point", place = "journal", %name, when = "before");
            });
        });
        let reached = hear.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(reached.point, "agent:journal:source-Handing:before");
        assert_eq!(reached.pid, std::process::id());
        assert!(!program.is_finished());
        leave.send(()).unwrap();
        program.join().unwrap();
        drop(points);
        assert!(!socket.exists());
    }
}
