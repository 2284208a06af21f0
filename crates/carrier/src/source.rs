//! The source's carrier: QEMU's stream in, frames out.

use std::fs::Permissions;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use stream::{ReturnMessage, ReturnPath, ReturnStep};
use types::{BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, Counters, PageCounts};
use wire::{Acknowledgement, Header, Kind, Receiver};

use crate::CarrierError;
use crate::control::Control;
use crate::error::cut;
use crate::flow::Flow;
use crate::net::{self, Breaker, Tls};
use crate::outbox::Outbox;

mod reader;
mod recheck;

use reader::Reader;
use recheck::Recheck;

/// How long QEMU may take to connect once the carriers have met.
const QEMU_ARRIVAL: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_millis(200);

/// What the source's threads share.
pub(crate) struct Shared {
    pub(crate) outbox: Outbox,
    pub(crate) control: Control,
    flow: Mutex<Flow>,
    flow_changed: Condvar,
    counted: Mutex<Counted>,
    sent: Arc<AtomicU64>,
    peer: String,
    failure: Mutex<Option<CarrierError>>,
    stop: AtomicBool,
    /// Both directions of QEMU's stream are delivered.
    finished: AtomicBool,
    started: Instant,
    breakers: Vec<Breaker>,
}

#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) done_bytes: u64,
    pub(crate) pages: PageCounts,
}

impl Shared {
    pub(crate) fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for a command or the like.
    pub(crate) fn wait_flow(&self, patience: Duration) {
        let flow = self.flow();
        let _ = self.flow_changed.wait_timeout(flow, patience);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The first failure counts; everything ends with it.
    fn fail(&self, error: CarrierError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            if !matches!(error, CarrierError::PeerFailed(_)) {
                self.outbox.push_bytes(Kind::Fail, &cut(&error));
            }
            *failure = Some(error);
        }
        drop(failure);
        self.stop.store(true, Ordering::Release);
        self.flow_changed.notify_all();
        self.outbox.close();
    }

    pub(crate) fn tell_counters(&self, last: bool) {
        let in_flight = self.outbox.in_flight();
        let (rate, round_trip) = {
            let flow = self.flow();
            (flow.rate(), flow.round_trip())
        };
        let counted = self.counted();
        let counters = Counters {
            done_bytes: counted.done_bytes,
            sent_bytes: self.sent.load(Ordering::Relaxed),
            unacknowledged_bytes: in_flight,
            rate_bytes_per_second: rate,
            round_trip_us: u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX),
            pages: counted.pages,
        };
        drop(counted);
        self.control.counters(counters, last);
    }

    fn obey(&self, command: CarrierCommand) {
        match command {
            CarrierCommand::Hold => self.flow().hold = true,
            CarrierCommand::Release => self.flow().hold = false,
            CarrierCommand::Tail => self.flow().tail = true,
            CarrierCommand::Note { text } => {
                if text.len() <= wire::MAX_NOTE {
                    self.outbox.push_bytes(Kind::Note, text.as_bytes());
                }
            }
            CarrierCommand::End => self.fail(CarrierError::Ended),
        }
        self.flow_changed.notify_all();
        self.outbox.nudge();
    }
}

/// Runs the source's side.
pub(crate) fn run(
    config: &CarrierConfig,
    address: &str,
    opaque: bool,
    recheck: &[BlockPlacement],
    control: &Control,
) -> Result<(), CarrierError> {
    let fail = |e: std::io::Error| CarrierError::Qemu(format!("{}: {e}", config.qemu.display()));
    let recheck = Recheck::open(recheck)?;
    let _ = std::fs::remove_file(&config.qemu);
    let listener = UnixListener::bind(&config.qemu).map_err(fail)?;
    std::fs::set_permissions(&config.qemu, Permissions::from_mode(0o600)).map_err(fail)?;
    let session = net::connect(config, address)?;
    let breakers = [session.forward.breaker(), session.backward.breaker()];
    let shared = Arc::new(Shared {
        outbox: Outbox::new(0),
        control: control.clone(),
        flow: Mutex::new(Flow::new(session.round_trip)),
        flow_changed: Condvar::new(),
        counted: Mutex::default(),
        sent: session.sent,
        peer: config.peer.to_string(),
        failure: Mutex::new(None),
        stop: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        started: Instant::now(),
        breakers: breakers.into_iter().flatten().collect(),
    });
    let obeying = Arc::clone(&shared);
    control.on_command(move |command| obeying.obey(command));
    let round_trip_us = u64::try_from(session.round_trip.as_micros()).unwrap_or(u64::MAX);
    control.emit(CarrierEvent::Connected { round_trip_us });
    let result = accept_qemu(&shared, &listener).and_then(|qemu| {
        let (placing, forward, backward) = (session.placing, session.forward, session.backward);
        let reader = Reader::new(&shared, placing, opaque, recheck)?;
        serve(&shared, &qemu, forward, backward, reader)
    });
    let _ = std::fs::remove_file(&config.qemu);
    shared.tell_counters(true);
    result
}

fn serve(
    shared: &Shared,
    qemu: &UnixStream,
    mut forward: Tls,
    mut backward: Tls,
    reader: Reader<'_>,
) -> Result<(), CarrierError> {
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(e) = shared.outbox.send_all(&mut forward) {
                shared.fail(CarrierError::connection(&shared.peer, &e));
            }
        });
        scope.spawn(|| {
            if let Err(error) = receive(shared, &mut backward, qemu) {
                shared.fail(error);
            }
            let _ = qemu.shutdown(Shutdown::Both);
        });
        scope.spawn(|| tick(shared));
        if let Err(error) = reader.read(qemu) {
            shared.fail(error);
        }
        // Notes go on until the agent ends the carrier or the other side is gone.
        while !shared.stopping() {
            shared.wait_flow(Duration::from_millis(50));
        }
        let _ = qemu.shutdown(Shutdown::Both);
        let until = Instant::now() + Duration::from_millis(300);
        while !shared.outbox.is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        for breaker in &shared.breakers {
            breaker.shut();
        }
    });
    let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failure {
        Some(CarrierError::Ended) => Err(CarrierError::Ended),
        Some(_) if shared.finished.load(Ordering::Acquire) => Ok(()),
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// QEMU connects when its agent lets it migrate.
fn accept_qemu(shared: &Shared, listener: &UnixListener) -> Result<UnixStream, CarrierError> {
    let fail = |e: std::io::Error| CarrierError::Qemu(format!("QEMU's socket: {e}"));
    listener.set_nonblocking(true).map_err(fail)?;
    let deadline = Instant::now() + QEMU_ARRIVAL;
    while Instant::now() < deadline {
        if shared.stopping() {
            return Err(CarrierError::Ended);
        }
        if let Ok((qemu, _)) = listener.accept() {
            qemu.set_nonblocking(false).map_err(fail)?;
            return Ok(qemu);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(CarrierError::Qemu("QEMU did not connect in time".into()))
}

/// Pings, counters, and the end of a carrier that nobody wants any more.
fn tick(shared: &Shared) {
    let mut pinged = Instant::now();
    while !shared.stopping() {
        shared.wait_flow(Duration::from_millis(20));
        shared.tell_counters(false);
        if pinged.elapsed() >= PING {
            pinged = Instant::now();
            let micros = u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.outbox.push_bytes(Kind::Ping, &micros.to_be_bytes());
        }
        if shared.control.orphaned() {
            shared.fail(CarrierError::Control("no agent has been there for long".into()));
        }
    }
}

/// What comes from the destination.
fn receive(shared: &Shared, input: &mut Tls, qemu: &UnixStream) -> Result<(), CarrierError> {
    let mut session = Receiver::new(1);
    let mut back = Back::default();
    let mut payload = Vec::new();
    loop {
        let header = net::read_frame(input, &mut payload, &shared.peer)?;
        session.accept(&header).map_err(CarrierError::invalid)?;
        receive_frame(shared, header, &payload, &mut back, qemu)?;
    }
}

fn receive_frame(
    shared: &Shared,
    header: Header,
    payload: &[u8],
    back: &mut Back,
    qemu: &UnixStream,
) -> Result<(), CarrierError> {
    let text = || String::from_utf8_lossy(payload).into_owned();
    match header.kind {
        Kind::Acknowledge => {
            let up_to = Acknowledgement::read(payload)
                .ok_or_else(|| CarrierError::invalid("a malformed acknowledgement"))?;
            let freed = shared.outbox.acknowledged(up_to.0).map_err(CarrierError::invalid)?;
            let left = shared.outbox.in_flight();
            shared.flow().acknowledged(freed, left, Instant::now());
        }
        Kind::Pong => {
            let Ok(sent) = payload.try_into().map(u64::from_be_bytes) else { return Ok(()) };
            let now = shared.started.elapsed();
            shared.flow().set_round_trip(now.saturating_sub(Duration::from_micros(sent)));
        }
        Kind::Return => {
            let mut qemu = qemu;
            // QEMU may have closed after its own end; the agent watches its status.
            let _ = qemu.write_all(&back.filter(payload));
        }
        Kind::ReturnEnd => {
            let _ = qemu.shutdown(Shutdown::Write);
            shared.finished.store(true, Ordering::Release);
            shared.tell_counters(true);
            shared.control.emit(CarrierEvent::Finished);
        }
        Kind::Note => shared.control.emit(CarrierEvent::Note { text: text() }),
        Kind::Fail => return Err(CarrierError::PeerFailed(text())),
        _ => return Err(CarrierError::invalid("a frame that only the source may send")),
    }
    Ok(())
}

/// QEMU's return path, on its way to the source's QEMU.
#[derive(Default)]
struct Back {
    path: ReturnPath,
    pending: Vec<u8>,
    /// Messages of another kind came: everything passes as it is from there on.
    raw: bool,
}

impl Back {
    /// The gate of the switchover is the agent's alone: an acknowledgement of
    /// the destination's QEMU does not pass.
    fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.pending.extend_from_slice(bytes);
        while !self.raw {
            match self.path.next(&self.pending) {
                Ok(ReturnStep::More(_)) => return out,
                Ok(ReturnStep::Message(n, message)) => {
                    if message != ReturnMessage::SwitchoverAck {
                        out.extend_from_slice(&self.pending[..n.min(self.pending.len())]);
                    }
                    self.pending.drain(..n.min(self.pending.len()));
                }
                Err(_) => self.raw = true,
            }
        }
        out.append(&mut self.pending);
        out
    }
}
