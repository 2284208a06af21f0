//! Breaks the link between the hosts at chosen moments of a move: resets every
//! connection through the lab's proxy and has new ones refused for a while.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Proxy;
use lab::points::Points;
use serde::Serialize;

/// How long new connections are refused.
pub(super) const REFUSED: Duration = Duration::from_secs(5);
/// Cuts in the middle of the copy.
pub(super) const COPY_CUTS: u32 = 3;
/// How often the proxy's counters are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The source's agent hears that the VM is stopped, whoever stopped it: what follows
/// is the tail.
const STOPPED: &str = "agent:event:STOP:before";

/// Cuts that were made in one move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cuts {
    /// While the VM ran.
    pub(super) copy: u32,
    /// Once it was stopped.
    pub(super) tail: u32,
    /// Connections that were open when they were cut.
    pub(super) connections: u64,
}

/// Listens for the moment of the tail, in whatever lab is told of its socket.
pub(super) struct Cutter {
    socket: PathBuf,
    /// What is to be done when the VM is stopped; nothing between moves.
    tail: Arc<Mutex<Option<Front>>>,
    cuts: Arc<Mutex<Cuts>>,
    _points: Points,
    _folder: tempfile::TempDir,
}

/// The proxy before one host.
#[derive(Debug, Clone)]
struct Front {
    proxy: Proxy,
    host: String,
}

impl Cutter {
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn listen() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gw-cut").tempdir()?;
        let socket = folder.path().join("points");
        let tail: Arc<Mutex<Option<Front>>> = Arc::default();
        let cuts: Arc<Mutex<Cuts>> = Arc::default();
        let (at_tail, made) = (Arc::clone(&tail), Arc::clone(&cuts));
        let points = Points::listen(&socket, move |reached| {
            if reached.point != STOPPED {
                return;
            }
            if let Some(front) = lock(&at_tail).take()
                && let Ok(open) = front.cut()
            {
                let mut made = lock(&made);
                made.tail += 1;
                made.connections += open;
                // The VM is stopped, and its agent goes on at once.
                std::thread::spawn(move || front.mend());
            }
        })?;
        Ok(Self { socket, tail, cuts, _points: points, _folder: folder })
    }

    /// The socket that the lab's programs tell of points.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins to cut the connections to `host`, in the copy each time that `between`
    /// bytes have passed.
    ///
    /// # Errors
    /// The lab has no proxy.
    pub(super) fn arm(&self, dir: &Path, host: &str, between: u64) -> Result<Armed<'_>> {
        let front = Front { proxy: Proxy::of(dir)?, host: host.to_owned() };
        *lock(&self.cuts) = Cuts::default();
        let stop = Arc::new(AtomicBool::new(false));
        let begun = front.passed()?;
        let copy = {
            let (stop, cuts) = (Arc::clone(&stop), Arc::clone(&self.cuts));
            let (tail, front) = (Arc::clone(&self.tail), front.clone());
            std::thread::spawn(move || cut_copy(&front, (begun, between), &cuts, &tail, &stop))
        };
        Ok(Armed { cutter: self, front, stop, copy: Some(copy) })
    }
}

/// Cuts are being made.
pub(super) struct Armed<'a> {
    cutter: &'a Cutter,
    front: Front,
    stop: Arc<AtomicBool>,
    copy: Option<JoinHandle<Result<()>>>,
}

impl Armed<'_> {
    /// Ends it; what was cut.
    ///
    /// # Errors
    /// The proxy did not do as it was told.
    pub(super) fn end(mut self) -> Result<Cuts> {
        self.stop.store(true, Ordering::Relaxed);
        *lock(&self.cutter.tail) = None;
        let ended = self.copy.take().map(JoinHandle::join);
        self.front.proxy.restore(&self.front.host)?;
        ended.and_then(std::result::Result::ok).context("the thread that cuts has ended")??;
        Ok(*lock(&self.cutter.cuts))
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        *lock(&self.cutter.tail) = None;
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the cuts of the copy, then leaves the rest to whoever hears of the tail.
fn cut_copy(
    front: &Front,
    (begun, between): (u64, u64),
    cuts: &Mutex<Cuts>,
    tail: &Mutex<Option<Front>>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut last = begun;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let passed = front.passed()?;
        if passed.saturating_sub(last) < between {
            continue;
        }
        let open = front.cut()?;
        let made = {
            let mut cuts = lock(cuts);
            cuts.copy += 1;
            cuts.connections += open;
            cuts.copy
        };
        if made == COPY_CUTS {
            *lock(tail) = Some(front.clone());
        }
        front.mend();
        if made == COPY_CUTS {
            break;
        }
        last = front.passed()?;
    }
    Ok(())
}

impl Front {
    fn status(&self) -> Result<lab::FrontStatus> {
        let fronts = self.proxy.status()?;
        fronts.into_iter().find(|f| f.host.as_str() == self.host).context("no such host")
    }

    /// Bytes that went to the host so far.
    fn passed(&self) -> Result<u64> {
        Ok(self.status()?.to_host_bytes)
    }

    /// Refuses new connections and resets those there are; how many.
    fn cut(&self) -> Result<u64> {
        let open = self.status()?.open;
        self.proxy.refuse(&self.host)?;
        self.proxy.reset(&self.host)?;
        Ok(open)
    }

    /// Waits, then lets connections through again.
    fn mend(&self) {
        std::thread::sleep(REFUSED);
        // A proxy that is gone is told of where it is asked next.
        let _ = self.proxy.restore(&self.host);
    }
}
