//! The other carrier breaks the rules, or this one's memory file system is full.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use pages::{Head, Run};
use types::{CarrierConfig, CarrierEvent, CarrierSide};
use wire::{HEADER, Header, Kind};

use crate::control::Control;
use crate::destination;
use crate::net::{self, Breakers, Dialer, Door, Link};
use crate::placement::Placement;
use support::{Agent, Place, beginning, end, file_of, part, ram_start, start};

const MEMORY: u64 = 1 << 20;

fn frame(kind: Kind, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, stream: 0, length: payload.len() as u32, sequence };
    [&header.to_bytes()[..], payload].concat()
}

/// One page of sevens.
fn page(block: u16, number: u64) -> Vec<u8> {
    let data = vec![Run { first: number, pages: 1 }];
    let head = Head { block, kind: pages::Kind::Raw, zero: Vec::new(), data, body: 4096 };
    let mut out = Vec::new();
    head.write(&mut out);
    out.extend([7; 4096]);
    out
}

fn dial(config: &CarrierConfig, port: u16) -> Dialer {
    Dialer::new(config, &format!("127.0.0.1:{port}"), 1, Duration::from_secs(5)).unwrap()
}

/// A destination meets a source that knows the secret and sends `frames`.
fn refused(frames: &[Vec<u8>]) -> String {
    let place = Place::new();
    let _qemu = UnixListener::bind(place.path("host-b.qemu")).unwrap();
    let mut to = start(place.destination(file_of(&place, MEMORY, MEMORY)));
    let port = to.agent.port();
    let config = place.source(port, false);
    let Link { mut forward, backward, .. } = dial(&config, port).begin().unwrap();
    for frame in frames {
        forward[0].write_all(frame).unwrap();
        forward[0].flush().unwrap();
    }
    let why = to.agent.failure();
    let memory = std::fs::read(place.path("memory")).unwrap();
    assert!(memory.iter().all(|b| *b == 0), "nothing was written: {why}");
    drop((forward, backward));
    end(to);
    why
}

#[test]
fn a_source_that_breaks_the_rules_is_refused() {
    let stream = [beginning(), ram_start(MEMORY)].concat();
    let stream = || frame(Kind::Verbatim, 1, &stream);
    let seal = |sequence, counted: u64| frame(Kind::Seal, sequence, &counted.to_be_bytes());
    let mut unknown = frame(Kind::Ping, 2, &[]);
    unknown[0] = 99;
    let mut elsewhere = frame(Kind::Pages, 2, &page(0, 0));
    elsewhere[1] = 1;
    let huge = frame(Kind::Pages, 2, &[]);
    let mut huge: [u8; HEADER] = huge.try_into().unwrap();
    huge[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("oversized", vec![stream(), huge.to_vec()], "more than its kind allows"),
        ("long note", vec![frame(Kind::Note, 1, &[b'n'; 4097])], "more than its kind allows"),
        ("unknown", vec![stream(), unknown], "unknown kind"),
        ("stream", vec![stream(), elsewhere], "unknown stream"),
        ("early", vec![frame(Kind::Pages, 1, &page(0, 0))], "block that does not exist"),
        ("block", vec![stream(), frame(Kind::Pages, 2, &page(9, 0))], "block that does not exist"),
        ("beyond", vec![stream(), frame(Kind::Pages, 2, &page(0, 256))], "beyond the end"),
        ("far", vec![stream(), frame(Kind::Pages, 2, &page(0, (1 << 48) - 1))], "beyond the end"),
        ("garbage", vec![stream(), frame(Kind::Pages, 2, b"no head at all")], "too early"),
        ("short", vec![stream(), frame(Kind::Pages, 2, &page(0, 0)[..2000])], ""),
        ("repeated", vec![stream(), stream()], "where 2 was due"),
        ("gap", vec![stream(), frame(Kind::Pages, 3, &page(0, 0))], "where 2 was due"),
        ("smuggled", vec![stream(), frame(Kind::Verbatim, 2, &part(0, 7))], "pc.ram"),
        ("miscounted", vec![stream(), seal(2, 7)], "counts 7"),
        ("late", vec![stream(), seal(2, 1), frame(Kind::Pages, 3, &page(0, 0))], "wrong side"),
        ("tail", vec![stream(), frame(Kind::Tail, 2, b"device")], "wrong side"),
        ("numbered", vec![stream(), frame(Kind::Ping, 2, &[0; 8])], "is numbered"),
        ("backward", vec![stream(), frame(Kind::Return, 2, b"")], "only the destination"),
        ("mode", vec![frame(Kind::Mode, 1, &[7])], "unknown mode"),
    ];
    thread::scope(|scope| {
        for (name, frames, expected) in cases {
            scope.spawn(move || {
                let why = refused(&frames);
                assert!(why.contains(expected), "{name}: {why}");
            });
        }
    });
}

/// The agent's end of a carrier that is made by hand.
fn by_hand(config: &CarrierConfig) -> (Control, Agent) {
    let control = Control::listen(&config.control).unwrap();
    (control, Agent::connect(&config.control))
}

#[test]
fn a_destination_that_acknowledges_what_was_never_sent_is_refused() {
    let place = Place::new();
    let config = place.destination(Vec::new());
    let (listener, port) = net::listen("127.0.0.1", (0, 0)).unwrap();
    let holds = net::Holds { placing: false, image: false };
    let door = Door::open(&config, listener, holds, &Breakers::default()).unwrap();
    let mut from = start(place.source(port, false));
    let mut session = door.wait(Duration::from_secs(20), 0).unwrap();
    from.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
    let _qemu = UnixStream::connect(place.path("host-a.qemu")).unwrap();
    let header = Header { kind: Kind::Acknowledge, stream: 1, length: 8, sequence: 0 };
    session.backward.write_all(&header.to_bytes()).unwrap();
    session.backward.write_all(&1_000_000u64.to_be_bytes()).unwrap();
    session.backward.flush().unwrap();
    let why = from.agent.failure();
    assert!(why.contains("never sent"), "{why}");
    end(from);
}

#[test]
fn a_full_memory_file_system_ends_the_attempt_on_both_sides() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("host-b.qemu")).unwrap();
    let config = place.destination(Vec::new());
    let (control, mut to) = by_hand(&config);
    // Every write to it finds no space left.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let placement = Placement::on("pc.ram", full, MEMORY);
    let CarrierSide::Destination { listen, ports, .. } = config.side.clone() else { panic!() };
    let serving = thread::spawn(move || {
        let result = destination::serve_on(&config, (&listen, ports), placement, None, &control);
        control.failed(result.as_ref().unwrap_err());
        result
    });
    let mut from = start(place.source(to.port(), false));
    from.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
    let mut source = UnixStream::connect(place.path("host-a.qemu")).unwrap();
    let _qemu = listener.accept().unwrap();
    source.write_all(&[beginning(), ram_start(MEMORY), part(0, 7)].concat()).unwrap();
    for agent in [&mut to, &mut from.agent] {
        let why = agent.failure();
        assert!(why.contains("file system is full") && why.contains("memory_size"), "{why}");
    }
    assert!(serving.join().unwrap().is_err());
    end(from);
}

#[test]
fn the_attempts_secret_begins_a_session_once() {
    let place = Place::new();
    let _qemu = UnixListener::bind(place.path("host-b.qemu")).unwrap();
    let mut to = start(place.destination(file_of(&place, MEMORY, MEMORY)));
    let port = to.agent.port();
    let config = place.source(port, false);
    // An answer may be lost: as long as nothing was said, the beginning is repeated.
    drop(dial(&config, port).begin().unwrap());
    let mut session = dial(&config, port);
    let mut link = session.begin().unwrap();
    let stream = frame(Kind::Verbatim, 1, &[beginning(), ram_start(MEMORY)].concat());
    link.forward[0].write_all(&stream).unwrap();
    link.forward[0].flush().unwrap();
    let mut header = [0; HEADER];
    while header[0] != Header::new(Kind::Acknowledge, 1, 8, 0).to_bytes()[0] {
        link.backward.read_exact(&mut header).unwrap();
        let length = Header::read(&header).unwrap().length as usize;
        link.backward.read_exact(&mut vec![0; length]).unwrap();
    }
    let error = dial(&config, port).begin().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("host-b"), "{error}");
    // The session itself goes on from what was applied.
    let until = Instant::now() + Duration::from_secs(20);
    let mut link = session.resume(0, until).unwrap();
    assert_eq!((link.number, link.applied), (1, 1));
    for frame in [frame(Kind::Pages, 2, &page(0, 0)), frame(Kind::Note, 3, b"here")] {
        link.forward[0].write_all(&frame).unwrap();
    }
    link.forward[0].flush().unwrap();
    to.agent.is(&CarrierEvent::Note { text: "here".into() });
    assert_eq!(std::fs::read(place.path("memory")).unwrap()[0], 7);
    drop(link);
    end(to);
}
