//! The source's carrier: QEMU's stream in, frames out.

use std::fs::Permissions;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pages::{Index, IndexPart};
use types::{
    BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, Counters, Force, Outage as Policy,
    PageCounts,
};
use wire::{Acknowledgement, Header, Kind, Receiver};

use crate::CarrierError;
use crate::control::Control;
use crate::ending::Ending;
use crate::flow::Flow;
use crate::link::{self, Outage};
use crate::net::{self, Breakers, Dialer, Link, Tls};
use crate::outbox::Outbox;
use crate::return_path::Watch;

mod crew;
mod desk;
mod reader;
mod recheck;
mod work;

use crew::Crew;
use desk::Desk;
use reader::Reader;
use recheck::Recheck;

/// How long QEMU may take to connect once the carriers have met; less than the
/// other side bears without a word.
const QEMU_ARRIVAL: Duration = Duration::from_secs(20);
const PING: Duration = Duration::from_millis(200);
/// Connections to the destination; one is as fast as several on few cores.
const LANES: u8 = 1;
/// Between two tries to make a link.
const RETRY: Duration = Duration::from_millis(100);
/// Version of the session from which on pages may be told by what the other side has.
pub(crate) const ROWS: u16 = 3;

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
    qemu: OnceLock<UnixStream>,
    outage: Policy,
    /// What the destination has said of its memory.
    told: Mutex<Told>,
    pub(crate) crew: Crew,
}

#[derive(Default)]
struct Told {
    index: Index,
    /// Names of blocks whose pages are placed.
    placed: Vec<String>,
    /// More is to come of the index, of the names.
    awaited: (bool, bool),
}

impl Told {
    fn hear(&mut self, kind: Kind, payload: &[u8]) -> Result<(), CarrierError> {
        const UNWANTED: &str = "word of its memory that nobody waits for";
        match kind {
            Kind::Placed if self.awaited.1 => {
                self.placed = names(payload)
                    .ok_or_else(|| CarrierError::invalid("a malformed list of blocks"))?;
                self.awaited.1 = false;
            }
            Kind::Index if self.awaited.0 => {
                let part = IndexPart::read(payload).map_err(CarrierError::invalid)?;
                self.index.add(part).map_err(CarrierError::invalid)?;
            }
            Kind::IndexEnd if self.awaited.0 => self.awaited.0 = false,
            _ => return Err(CarrierError::invalid(UNWANTED)),
        }
        Ok(())
    }
}

/// Each a byte of length and text.
fn names(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        names.push(std::str::from_utf8(name).ok()?.to_owned());
        bytes = rest;
    }
    Some(names)
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

    /// Lets QEMU go.
    fn hang_up(&self) {
        if let Some(qemu) = self.qemu.get() {
            let _ = qemu.shutdown(Shutdown::Both);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the destination holds, and of which blocks it places pages, once it has said all.
    pub(crate) fn take_told(&self) -> Option<(Index, Vec<String>)> {
        let mut told = self.told();
        let all = told.awaited == (false, false);
        all.then(|| (std::mem::take(&mut told.index), std::mem::take(&mut told.placed)))
    }

    fn obey(&self, command: CarrierCommand) {
        match command {
            CarrierCommand::Hold => self.flow().hold = true,
            CarrierCommand::Release => self.flow().hold = false,
            CarrierCommand::Tail => self.flow().begin_tail(Instant::now()),
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

/// What only the source's side is told.
pub(crate) struct Settings<'a> {
    pub(crate) address: &'a str,
    pub(crate) opaque: bool,
    pub(crate) recheck: &'a [BlockPlacement],
    pub(crate) outage: Policy,
    pub(crate) force: Option<Force>,
}

/// Runs the source's side.
pub(crate) fn run(
    config: &CarrierConfig,
    settings: &Settings<'_>,
    control: &Control,
) -> Result<(), CarrierError> {
    let fail = |e: std::io::Error| CarrierError::Qemu(format!("{}: {e}", config.qemu.display()));
    let recheck = Recheck::open(settings.recheck)?;
    let _ = std::fs::remove_file(&config.qemu);
    let listener = UnixListener::bind(&config.qemu).map_err(fail)?;
    std::fs::set_permissions(&config.qemu, Permissions::from_mode(0o600)).map_err(fail)?;
    let copy = Duration::from_secs(settings.outage.copy_seconds.into());
    let mut dialer = Dialer::new(config, settings.address, LANES, copy)?;
    let link = dialer.begin()?;
    let (placing, round_trip) = (link.placing, link.round_trip);
    let keys = (net::image_key(config)?, net::parts_key(config)?);
    let shared = Arc::new(Shared {
        ending: Ending::new(0, config.peer.to_string(), Breakers::default()),
        control: control.clone(),
        flow: Mutex::new(Flow::new(round_trip)),
        flow_changed: Condvar::new(),
        counted: Mutex::default(),
        back: Mutex::default(),
        sent: dialer.sent(),
        started: Instant::now(),
        qemu: OnceLock::new(),
        outage: settings.outage,
        told: Mutex::new(Told {
            awaited: (link.image, placing && link.version >= ROWS),
            ..Told::default()
        }),
        crew: Crew::new(Desk::new(Crew::threads(), keys, settings.force)),
    });
    let obeying = Arc::clone(&shared);
    control.on_command(move |command| obeying.obey(command));
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    control.emit(CarrierEvent::Connected { round_trip_us });
    let reader = Reader::new(&shared, placing, settings.opaque, recheck);
    let result = serve(&shared, &listener, (dialer, link), reader);
    let _ = std::fs::remove_file(&config.qemu);
    shared.tell_counters(true);
    result
}

fn serve(
    shared: &Shared,
    listener: &UnixListener,
    links: (Dialer, Link),
    reader: Reader<'_>,
) -> Result<(), CarrierError> {
    thread::scope(|scope| {
        scope.spawn(|| {
            keep_linked(shared, links);
            shared.flow_changed.notify_all();
            shared.hang_up();
        });
        scope.spawn(|| tick(shared));
        for _ in 0..Crew::threads() {
            scope.spawn(|| shared.crew.work(shared));
        }
        let read = accept_qemu(shared, listener).and_then(|qemu| reader.read(qemu));
        if let Err(error) = read {
            shared.fail(error);
        }
        // Notes go on until the agent ends the carrier or the other side is gone.
        while !shared.ending.wait(Duration::from_millis(500)) {}
        shared.crew.close();
        shared.hang_up();
        shared.ending.shut();
    });
    shared.ending.verdict()
}

/// One link after the other, until everything ends.
fn keep_linked(shared: &Shared, (mut dialer, first): (Dialer, Link)) {
    let mut session = Receiver::new(1);
    let mut next = Some((first, None));
    while let Some((mut link, ended)) = next {
        shared.ending.breakers.set(&link);
        let Link { number, applied, ref mut forward, ref mut backward, .. } = link;
        let error = link::serve(&shared.ending, (number, applied), ended, forward, || {
            receive(shared, backward, &mut session)
        });
        shared.flow().interrupted();
        let Some(outage) = Outage::begin(&shared.ending, &shared.control, error) else { return };
        next = relink(shared, &mut dialer, &session, &outage).map(|link| (link, Some(outage)));
    }
}

/// Tries to make a link for as long as the policy allows.
fn relink(
    shared: &Shared,
    dialer: &mut Dialer,
    session: &Receiver,
    outage: &Outage<'_>,
) -> Option<Link> {
    loop {
        let tail = shared.flow().tail_since();
        let bound =
            if tail.is_some() { shared.outage.tail_seconds } else { shared.outage.copy_seconds };
        let bound = Duration::from_secs(bound.into());
        if !outage.bears(bound, tail) {
            return None;
        }
        let until = Instant::now() + bound.min(Duration::from_secs(2));
        match dialer.resume(session.applied().0, until) {
            Ok(link) => return Some(link),
            Err(error) => tracing::debug!(%error, "no link yet"),
        }
        shared.ending.wait(RETRY);
    }
}

/// QEMU connects when its agent lets it migrate.
fn accept_qemu<'a>(
    shared: &'a Shared,
    listener: &UnixListener,
) -> Result<&'a UnixStream, CarrierError> {
    let fail = |e: std::io::Error| CarrierError::Qemu(format!("QEMU's socket: {e}"));
    listener.set_nonblocking(true).map_err(fail)?;
    let deadline = Instant::now() + QEMU_ARRIVAL;
    while Instant::now() < deadline {
        if shared.ending.stopping() {
            return Err(CarrierError::Ended);
        }
        if let Ok((qemu, _)) = listener.accept() {
            qemu.set_nonblocking(false).map_err(fail)?;
            return Ok(shared.qemu.get_or_init(|| qemu));
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

/// What comes from the destination; the error that ended it.
fn receive(shared: &Shared, input: &mut Tls, session: &mut Receiver) -> CarrierError {
    let mut payload = Vec::new();
    loop {
        let received =
            net::read_frame(input, &mut payload, shared.ending.peer()).and_then(|header| {
                session.accept(&header).map_err(CarrierError::invalid)?;
                receive_frame(shared, header, &payload)?;
                Ok(header)
            });
        match received {
            Ok(header) if header.kind.is_numbered() => {
                shared.outbox().acknowledge(session.applied().0);
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn receive_frame(shared: &Shared, header: Header, payload: &[u8]) -> Result<(), CarrierError> {
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
            let Some(mut qemu) = shared.qemu.get() else {
                return Err(CarrierError::invalid("an answer to a QEMU that has said nothing"));
            };
            // QEMU may have closed after its own end; the agent watches its status.
            let passed = shared.back().filter(payload);
            let _ = qemu.write_all(&passed);
        }
        Kind::ReturnEnd => {
            if let Some(qemu) = shared.qemu.get() {
                let _ = qemu.shutdown(Shutdown::Write);
            }
            shared.ending.finish();
            shared.tell_counters(true);
            shared.control.emit(CarrierEvent::Finished);
        }
        Kind::Placed | Kind::Index | Kind::IndexEnd => {
            shared.told().hear(header.kind, payload)?;
        }
        Kind::Prints => shared.crew.answered(payload)?,
        Kind::Note => shared.control.emit(CarrierEvent::Note { text: text() }),
        Kind::Fail => return Err(shared.ending.told(text())),
        _ => return Err(CarrierError::invalid("a frame that only the source may send")),
    }
    Ok(())
}
