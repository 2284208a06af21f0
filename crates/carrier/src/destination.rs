//! The destination's carrier: frames in, pages into the memory file, the rest to QEMU.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pages::Printer;
use types::{BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, Mode};
use wire::{Acknowledgement, Header, Kind, Receiver};

use crate::CarrierError;
use crate::control::Control;
use crate::ending::Ending;
use crate::link::{self, Outage};
use crate::net::{self, Breakers, Door, Holds, Link, Tls};
use crate::outbox::Outbox;
use crate::placement::Placement;
use crate::return_path::Watch;
use crate::source::ROWS;

mod image;
mod writer;

use writer::Writer;

/// QEMU listens before the carrier is started; this is only for a slow start.
const QEMU_ARRIVAL: Duration = Duration::from_secs(10);
/// How long the destination waits for the source's first link.
const ARRIVAL: Duration = Duration::from_secs(120);
/// A source that has given up will have told its agent by then.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes that may be on their way to the source: an index's window, and answers.
const ANSWERS: u64 = 32 << 20;
/// Longest that a source may have itself waited for.
const LONGEST_OUTAGE: Duration = Duration::from_secs(3600);
const LOOK: Duration = Duration::from_millis(50);
/// The source hears something this often, however long a frame takes to be applied.
const ALIVE: Duration = Duration::from_millis(200);

struct Shared {
    ending: Ending,
    control: Control,
    /// All pages are placed, or nobody looks at them: QEMU may close when it has loaded all.
    tail: AtomicBool,
}

impl Shared {
    fn outbox(&self) -> &Outbox {
        &self.ending.outbox
    }

    fn obey(&self, command: CarrierCommand) {
        match command {
            CarrierCommand::Note { text } if text.len() <= wire::MAX_NOTE => {
                self.outbox().push_bytes(Kind::Note, text.as_bytes());
            }
            CarrierCommand::End => self.ending.fail(CarrierError::Ended),
            _ => tracing::warn!("a command that only the source's carrier knows"),
        }
    }
}

/// Runs the destination's side.
pub(crate) fn run(
    config: &CarrierConfig,
    address: &str,
    ports: (u16, u16),
    (blocks, image): (&[BlockPlacement], bool),
    control: &Control,
) -> Result<(), CarrierError> {
    let mut placement = Placement::open(blocks)?;
    let image = match image && blocks.iter().map(|b| b.length).sum::<u64>() <= image::LONGEST {
        true => {
            placement.may_hold_anything();
            Some((blocks, net::image_key(config)?))
        }
        false => None,
    };
    serve_on(config, (address, ports), placement, image, control)
}

/// Runs the destination's side with memory files that are open.
pub(crate) fn serve_on(
    config: &CarrierConfig,
    (address, ports): (&str, (u16, u16)),
    placement: Placement,
    image: Option<(&[BlockPlacement], [u8; 32])>,
    control: &Control,
) -> Result<(), CarrierError> {
    let (listener, port) = net::listen(address, ports)?;
    control.emit(CarrierEvent::Listening { port });
    let breakers = Breakers::default();
    let holds = Holds { placing: placement.is_used(), image: image.is_some() };
    let door = Door::open(config, listener, holds, &breakers)?;
    let shared = Arc::new(Shared {
        ending: Ending::new(1, config.peer.to_string(), breakers),
        control: control.clone(),
        tail: AtomicBool::new(false),
    });
    if let Some((blocks, key)) = image {
        let (shared, blocks) = (Arc::clone(&shared), blocks.to_vec());
        thread::spawn(move || image::tell(&shared.ending, &blocks, key));
    }
    let link = first_link(config, &door, control)
        .inspect_err(|error| shared.ending.fail(error.clone()))?;
    let obeying = Arc::clone(&shared);
    control.on_command(move |command| obeying.obey(command));
    control.emit(CarrierEvent::Connected { round_trip_us: 0 });
    if placement.is_used() && link.version >= ROWS {
        shared.outbox().push_bytes(Kind::Placed, &list(&placement.names()));
    }
    let printer = Printer::new(net::parts_key(config)?);
    let ready =
        connect_qemu(&config.qemu).and_then(|qemu| Ok((qemu, Writer::new(placement, printer)?)));
    match ready {
        Ok((qemu, writer)) => {
            let applier =
                Applier { shared: &shared, session: Receiver::new(0), writer, qemu: &qemu };
            serve(&shared, &qemu, applier, &door, link)
        }
        Err(error) => Err(shared.ending.refuse(error, link)),
    }
}

/// Names as they travel.
fn list(names: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        let name = &name.as_bytes()[..name.len().min(255)];
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
    }
    bytes.truncate(wire::MAX_PLACED);
    bytes
}

fn first_link(
    config: &CarrierConfig,
    door: &Door,
    control: &Control,
) -> Result<Link, CarrierError> {
    let deadline = Instant::now() + ARRIVAL;
    loop {
        if control.ended() {
            return Err(CarrierError::Ended);
        }
        if Instant::now() > deadline {
            let why = format!("the carrier of {} did not connect in time", config.peer);
            return Err(CarrierError::Peer(why));
        }
        if let Some(link) = door.wait(LOOK, 0) {
            return Ok(link);
        }
    }
}

fn connect_qemu(path: &Path) -> Result<UnixStream, CarrierError> {
    let deadline = Instant::now() + QEMU_ARRIVAL;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => {
                return Err(CarrierError::Qemu(format!("the destination's QEMU: {e}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn serve(
    shared: &Shared,
    qemu: &UnixStream,
    mut applier: Applier<'_>,
    door: &Door,
    first: Link,
) -> Result<(), CarrierError> {
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = return_path(shared, qemu) {
                shared.ending.fail(error);
                // The receiver may be blocked writing to QEMU.
                let _ = qemu.shutdown(Shutdown::Both);
            }
        });
        scope.spawn(|| watch_over(shared, qemu));
        keep_linked(shared, &mut applier, door, first);
        applier.writer.close();
        let _ = qemu.shutdown(Shutdown::Both);
    });
    shared.ending.verdict()
}

/// One link after the other, until everything ends.
fn keep_linked(shared: &Shared, applier: &mut Applier<'_>, door: &Door, first: Link) {
    let mut next = Some((first, None));
    while let Some((mut link, ended)) = next {
        shared.ending.breakers.set(&link);
        let (number, applied, outage) = (link.number, link.applied, link.outage);
        let (forward, backward) = (&mut link.forward, std::slice::from_mut(&mut link.backward));
        let error = link::serve(&shared.ending, (number, applied), ended, backward, || {
            let error = receive(shared, forward, applier, door);
            if !matches!(error, CarrierError::Connection { .. }) {
                // Nothing is placed any more, whatever is said of it.
                applier.writer.close();
            }
            error
        });
        let Some(broken) = Outage::begin(&shared.ending, &shared.control, error) else { return };
        let bound = outage.min(LONGEST_OUTAGE) + GRACE;
        next = loop {
            if !broken.bears(bound, None) {
                return;
            }
            if let Some(link) = door.wait(LOOK, applier.session.applied().0) {
                break Some((link, Some(broken)));
            }
        };
    }
}

/// Breaks the connections once the carrier is to end, so that no thread stays blocked.
fn watch_over(shared: &Shared, qemu: &UnixStream) {
    let mut spoke = Instant::now();
    while !shared.ending.wait(Duration::from_millis(20)) {
        shared.ending.look_after(&shared.control);
        if spoke.elapsed() > ALIVE {
            spoke = Instant::now();
            shared.outbox().push_bytes(Kind::Pong, &[]);
        }
    }
    shared.ending.shut();
    let _ = qemu.shutdown(Shutdown::Both);
}

/// QEMU's return path to the source.
fn return_path(shared: &Shared, mut qemu: &UnixStream) -> Result<(), CarrierError> {
    let mut watch = Watch::default();
    let mut bytes = vec![0; 64 << 10];
    while let Ok(n) = qemu.read(&mut bytes)
        && n > 0
    {
        watch.filter(&bytes[..n]);
        shared.outbox().push_bytes(Kind::Return, &bytes[..n]);
    }
    if shared.ending.stopping() {
        // It was not QEMU that closed.
        return Ok(());
    }
    let why = match shared.tail.load(Ordering::Acquire) {
        true => watch.unfinished(),
        false => Some("the destination's QEMU closed its stream before all had come"),
    };
    if let Some(why) = why {
        return Err(CarrierError::Qemu(why.into()));
    }
    shared.outbox().push_bytes(Kind::ReturnEnd, &[]);
    shared.ending.finish();
    shared.control.emit(CarrierEvent::Finished);
    Ok(())
}

/// What applies the source's frames, over all links.
struct Applier<'a> {
    shared: &'a Shared,
    session: Receiver,
    writer: Writer,
    qemu: &'a UnixStream,
}

/// What comes from the source; the error that ended it.
fn receive(
    shared: &Shared,
    lanes: &mut [Tls],
    applier: &mut Applier<'_>,
    door: &Door,
) -> CarrierError {
    let [input] = lanes else { return CarrierError::invalid("a link of several connections") };
    let mut payload = Vec::new();
    loop {
        let read = net::read_frame(input, &mut payload, shared.ending.peer());
        match read.and_then(|header| applier.frame(header, &payload)) {
            Ok(()) => door.heard(),
            Err(error) => return error,
        }
    }
}

impl Applier<'_> {
    fn frame(&mut self, header: Header, payload: &[u8]) -> Result<(), CarrierError> {
        self.session.accept(&header).map_err(CarrierError::invalid)?;
        self.apply(header, payload)?;
        self.feed_qemu()?;
        if header.kind.is_numbered() {
            self.shared.outbox().acknowledge(self.session.applied().0);
        }
        Ok(())
    }

    fn apply(&mut self, header: Header, payload: &[u8]) -> Result<(), CarrierError> {
        let Self { shared, session, writer, .. } = self;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match header.kind {
            Kind::Verbatim => writer.verbatim(payload)?,
            Kind::Pages => writer.pages(payload)?,
            Kind::Tail => writer.tail(payload),
            Kind::Seal => {
                let counted = payload
                    .try_into()
                    .map(u64::from_be_bytes)
                    .map_err(|_| CarrierError::invalid("a malformed seal"))?;
                session.seal(counted).map_err(CarrierError::invalid)?;
                writer.close();
                shared.tail.store(true, Ordering::Release);
                shared.control.emit(CarrierEvent::Sealed);
            }
            Kind::Mode => {
                let (mode, why) = match payload {
                    [0, ..] => (Mode::Direct, None),
                    [1, why @ ..] => (Mode::Stream, Some(text(why))),
                    [2, why @ ..] => (Mode::Opaque, Some(text(why))),
                    _ => return Err(CarrierError::invalid("an unknown mode")),
                };
                session.mode(mode == Mode::Opaque).map_err(CarrierError::invalid)?;
                if mode == Mode::Opaque {
                    writer.go_opaque();
                    shared.tail.store(true, Ordering::Release);
                }
                shared.control.emit(CarrierEvent::Mode { mode, why });
            }
            Kind::Ping => shared.outbox().push_bytes(Kind::Pong, payload),
            Kind::Note => shared.control.emit(CarrierEvent::Note { text: text(payload) }),
            Kind::Acknowledge => {
                let up_to = Acknowledgement::read(payload)
                    .ok_or_else(|| CarrierError::invalid("a malformed acknowledgement"))?;
                shared.outbox().acknowledged(up_to.0).map_err(CarrierError::invalid)?;
            }
            Kind::End => {}
            Kind::Fail => return Err(shared.ending.told(text(payload))),
            Kind::Ask => {
                let mut answer = shared.outbox().buffer();
                writer.answer(payload, &mut answer)?;
                let weight = answer.len() as u64;
                if shared.outbox().in_flight() > ANSWERS {
                    return Err(CarrierError::invalid("too many questions at once"));
                }
                shared.outbox().push(Kind::Prints, answer, weight);
            }
            Kind::Return
            | Kind::ReturnEnd
            | Kind::Pong
            | Kind::Placed
            | Kind::Index
            | Kind::IndexEnd
            | Kind::Prints => {
                return Err(CarrierError::invalid("a frame that only the destination may send"));
            }
        }
        Ok(())
    }

    fn feed_qemu(&mut self) -> Result<(), CarrierError> {
        let (mut qemu, out) = (self.qemu, self.writer.out());
        if out.is_empty() {
            return Ok(());
        }
        let written = qemu.write_all(out);
        self.writer.written();
        // After the seal QEMU's own status tells whether it has loaded everything.
        match written {
            Err(e) if !self.shared.tail.load(Ordering::Acquire) => {
                Err(CarrierError::Qemu(format!("the destination's QEMU: {e}")))
            }
            _ => Ok(()),
        }
    }
}
