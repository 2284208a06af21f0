//! The destination's carrier: frames in, pages into the memory file, the rest to QEMU.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use types::{BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, Mode};
use wire::{Header, Kind, Receiver};

use crate::CarrierError;
use crate::control::Control;
use crate::ending::Ending;
use crate::net::{self, Session, Tls};
use crate::outbox::Outbox;
use crate::placement::Placement;
use crate::return_path::Watch;

mod writer;

use writer::Writer;

/// QEMU listens before the carrier is started; this is only for a slow start.
const QEMU_ARRIVAL: Duration = Duration::from_secs(10);

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
    blocks: &[BlockPlacement],
    control: &Control,
) -> Result<(), CarrierError> {
    let placement = Placement::open(blocks)?;
    let (listener, port) = net::listen(address, ports)?;
    control.emit(CarrierEvent::Listening { port });
    let Session { forward, mut backward, .. } =
        net::accept(config, &listener, placement.is_used(), control)?;
    drop(listener);
    let breakers = [forward.breaker(), backward.breaker()].into_iter().flatten().collect();
    let shared = Arc::new(Shared {
        ending: Ending::new(1, config.peer.to_string(), breakers),
        control: control.clone(),
        tail: AtomicBool::new(false),
    });
    let obeying = Arc::clone(&shared);
    control.on_command(move |command| obeying.obey(command));
    control.emit(CarrierEvent::Connected { round_trip_us: 0 });
    let ready = connect_qemu(&config.qemu).and_then(|qemu| Ok((qemu, Writer::new(placement)?)));
    match ready {
        Ok((qemu, writer)) => serve(&shared, &qemu, writer, forward, backward),
        Err(error) => Err(shared.ending.refuse(error, &mut backward)),
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
    mut writer: Writer,
    mut forward: Tls,
    mut backward: Tls,
) -> Result<(), CarrierError> {
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(e) = shared.outbox().send_all(&mut backward) {
                shared.ending.cannot_send(&e);
            }
        });
        scope.spawn(|| {
            if let Err(error) = return_path(shared, qemu) {
                shared.ending.fail(error);
                // The receiver may be blocked writing to QEMU.
                let _ = qemu.shutdown(Shutdown::Both);
            }
        });
        scope.spawn(|| watch_over(shared, qemu));
        if let Err(error) = receive(shared, &mut forward, &mut writer, qemu) {
            shared.ending.fail(error);
        }
        writer.close();
        let _ = qemu.shutdown(Shutdown::Both);
    });
    shared.ending.verdict()
}

/// Breaks the connections once the carrier is to end, so that no thread stays blocked.
fn watch_over(shared: &Shared, qemu: &UnixStream) {
    while !shared.ending.stopping() {
        thread::sleep(Duration::from_millis(20));
        shared.ending.look_after(&shared.control);
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

/// What comes from the source.
fn receive(
    shared: &Shared,
    input: &mut Tls,
    writer: &mut Writer,
    qemu: &UnixStream,
) -> Result<(), CarrierError> {
    let mut session = Receiver::new(0);
    let mut payload = Vec::new();
    loop {
        let header = net::read_frame(input, &mut payload, shared.ending.peer())?;
        session.accept(&header).map_err(CarrierError::invalid)?;
        apply(shared, &mut session, header, &payload, writer, qemu)?;
        if matches!(header.kind, Kind::Pages | Kind::Verbatim | Kind::Tail | Kind::Seal) {
            shared.outbox().acknowledge(session.applied().0);
        }
    }
}

fn apply(
    shared: &Shared,
    session: &mut Receiver,
    header: Header,
    payload: &[u8],
    writer: &mut Writer,
    mut qemu: &UnixStream,
) -> Result<(), CarrierError> {
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
        Kind::End => {}
        Kind::Fail => return Err(shared.ending.told(text(payload))),
        _ => return Err(CarrierError::invalid("a frame that only the destination may send")),
    }
    let out = writer.out();
    if !out.is_empty() {
        let written = qemu.write_all(out);
        writer.written();
        // After the seal QEMU's own status tells whether it has loaded everything.
        if let Err(e) = written
            && !shared.tail.load(Ordering::Acquire)
        {
            return Err(CarrierError::Qemu(format!("the destination's QEMU: {e}")));
        }
    }
    Ok(())
}
