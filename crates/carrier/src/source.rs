//! The source's carrier: QEMU's stream in, frames out.

use std::fs::Permissions;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use types::{BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, Counters, PageCounts};
use wire::{Acknowledgement, Header, Kind, Receiver};

use crate::CarrierError;
use crate::control::Control;
use crate::ending::Ending;
use crate::flow::Flow;
use crate::net::{self, Session, Tls};
use crate::outbox::Outbox;
use crate::return_path::Watch;

mod reader;
mod recheck;

use reader::Reader;
use recheck::Recheck;

/// How long QEMU may take to connect once the carriers have met; less than the
/// other side bears without a word.
const QEMU_ARRIVAL: Duration = Duration::from_secs(20);
const PING: Duration = Duration::from_millis(200);

/// What the source's threads share.
pub(crate) struct Shared {
    pub(crate) ending: Ending,
    pub(crate) control: Control,
    flow: Mutex<Flow>,
    flow_changed: Condvar,
    counted: Mutex<Counted>,
    back: Mutex<Watch>,
    sent: Arc<AtomicU64>,
    started: Instant,
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

    /// QEMU's return path so far.
    pub(crate) fn back(&self) -> MutexGuard<'_, Watch> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.ending.outbox
    }

    /// Waits a moment for a command or the like.
    pub(crate) fn wait_flow(&self, patience: Duration) {
        let flow = self.flow();
        let _ = self.flow_changed.wait_timeout(flow, patience);
    }

    fn fail(&self, error: CarrierError) {
        self.ending.fail(error);
        self.flow_changed.notify_all();
    }

    pub(crate) fn tell_counters(&self, last: bool) {
        let in_flight = self.outbox().in_flight();
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
                    self.outbox().push_bytes(Kind::Note, text.as_bytes());
                }
            }
            CarrierCommand::End => self.fail(CarrierError::Ended),
        }
        self.flow_changed.notify_all();
        self.outbox().nudge();
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
    let Session { mut forward, backward, placing, round_trip, sent } =
        net::connect(config, address)?;
    let breakers = [forward.breaker(), backward.breaker()].into_iter().flatten().collect();
    let shared = Arc::new(Shared {
        ending: Ending::new(0, config.peer.to_string(), breakers),
        control: control.clone(),
        flow: Mutex::new(Flow::new(round_trip)),
        flow_changed: Condvar::new(),
        counted: Mutex::default(),
        back: Mutex::default(),
        sent,
        started: Instant::now(),
    });
    let obeying = Arc::clone(&shared);
    control.on_command(move |command| obeying.obey(command));
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    control.emit(CarrierEvent::Connected { round_trip_us });
    let ready = accept_qemu(&shared, &listener)
        .and_then(|qemu| Ok((qemu, Reader::new(&shared, placing, opaque, recheck)?)));
    let result = match ready {
        Ok((qemu, reader)) => serve(&shared, &qemu, forward, backward, reader),
        Err(error) => Err(shared.ending.refuse(error, &mut forward)),
    };
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
            if let Err(e) = shared.outbox().send_all(&mut forward) {
                shared.ending.cannot_send(&e);
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
        while !shared.ending.stopping() {
            shared.wait_flow(Duration::from_millis(50));
        }
        let _ = qemu.shutdown(Shutdown::Both);
        shared.ending.shut();
    });
    shared.ending.verdict()
}

/// QEMU connects when its agent lets it migrate.
fn accept_qemu(shared: &Shared, listener: &UnixListener) -> Result<UnixStream, CarrierError> {
    let fail = |e: std::io::Error| CarrierError::Qemu(format!("QEMU's socket: {e}"));
    listener.set_nonblocking(true).map_err(fail)?;
    let deadline = Instant::now() + QEMU_ARRIVAL;
    while Instant::now() < deadline {
        if shared.ending.stopping() {
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
    while !shared.ending.stopping() {
        shared.wait_flow(Duration::from_millis(20));
        shared.tell_counters(false);
        if pinged.elapsed() >= PING {
            pinged = Instant::now();
            let micros = u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.outbox().push_bytes(Kind::Ping, &micros.to_be_bytes());
        }
        shared.ending.look_after(&shared.control);
    }
}

/// What comes from the destination.
fn receive(shared: &Shared, input: &mut Tls, qemu: &UnixStream) -> Result<(), CarrierError> {
    let mut session = Receiver::new(1);
    let mut payload = Vec::new();
    loop {
        let header = net::read_frame(input, &mut payload, shared.ending.peer())?;
        session.accept(&header).map_err(CarrierError::invalid)?;
        receive_frame(shared, header, &payload, qemu)?;
    }
}

fn receive_frame(
    shared: &Shared,
    header: Header,
    payload: &[u8],
    qemu: &UnixStream,
) -> Result<(), CarrierError> {
    let text = || String::from_utf8_lossy(payload).into_owned();
    match header.kind {
        Kind::Acknowledge => {
            let up_to = Acknowledgement::read(payload)
                .ok_or_else(|| CarrierError::invalid("a malformed acknowledgement"))?;
            let freed = shared.outbox().acknowledged(up_to.0).map_err(CarrierError::invalid)?;
            let left = shared.outbox().in_flight();
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
            let passed = shared.back().filter(payload);
            let _ = qemu.write_all(&passed);
        }
        Kind::ReturnEnd => {
            let _ = qemu.shutdown(Shutdown::Write);
            shared.ending.finish();
            shared.tell_counters(true);
            shared.control.emit(CarrierEvent::Finished);
        }
        Kind::Note => shared.control.emit(CarrierEvent::Note { text: text() }),
        Kind::Fail => return Err(shared.ending.told(text())),
        _ => return Err(CarrierError::invalid("a frame that only the source may send")),
    }
    Ok(())
}
