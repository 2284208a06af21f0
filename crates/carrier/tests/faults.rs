//! Wrong peers, broken connections, streams that are none.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use types::{BlockPlacement, CarrierCommand, CarrierEvent, CarrierSide, HostId};

use support::{Agent, Place, Side, start};

fn connected(side: &mut Side) {
    side.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
}

fn end(mut side: Side) {
    side.agent.send(CarrierCommand::End);
    let _ = side.thread.join().unwrap();
}

#[test]
fn a_wrong_secret_or_host_is_turned_away() {
    let place = Place::new();
    let mut to = start(place.destination(Vec::new()));
    let port = to.agent.port();
    let mut stranger = place.source(port, false);
    stranger.secret = "22".repeat(32);
    let mut stranger = start(stranger);
    assert!(stranger.agent.failure().contains("host-b"));
    // A host of the same CA, but not the one the attempt names.
    let side = CarrierSide::Source {
        connect: format!("127.0.0.1:{port}"),
        opaque: false,
        recheck: Vec::new(),
    };
    let mut other = start(place.config("host-c", "host-b", side));
    assert!(other.agent.failure().contains("host-b"));
    // And a destination that is not the one the source wants.
    let mut wrong = place.source(port, false);
    wrong.peer = "host-c".parse::<HostId>().unwrap();
    wrong.control = place.path("wrong.control");
    let mut wrong = start(wrong);
    assert!(wrong.agent.failure().contains("host-c"));
    for side in [stranger, other, wrong, to] {
        end(side);
    }
}

/// Both carriers, a scripted QEMU at each, a connection between that can be cut.
struct Pair {
    from: Side,
    to: Side,
    source_qemu: UnixStream,
    destination_qemu: UnixStream,
    place: Place,
    cables: Vec<TcpStream>,
    gate: Arc<Gate>,
}

/// Stops what goes from the source to the destination.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        drop(self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
    }
}

impl Pair {
    fn new(blocks: impl Fn(&Place) -> Vec<BlockPlacement>) -> Self {
        let place = Place::new();
        let listener = UnixListener::bind(place.path("host-b.qemu")).unwrap();
        let mut to = start(place.destination(blocks(&place)));
        let port = to.agent.port();
        let middle = TcpListener::bind("127.0.0.1:0").unwrap();
        let middle_port = middle.local_addr().unwrap().port();
        let mut from = start(place.source(middle_port, false));
        let gate = Arc::new(Gate::default());
        let cables = (0..2).flat_map(|_| {
            let (near, _) = middle.accept().unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            join(near.try_clone().unwrap(), far.try_clone().unwrap(), gate.clone());
            join(far.try_clone().unwrap(), near.try_clone().unwrap(), Arc::default());
            [near, far]
        });
        let cables: Vec<TcpStream> = cables.collect();
        connected(&mut from);
        let source_qemu = UnixStream::connect(place.path("host-a.qemu")).unwrap();
        let (destination_qemu, _) = listener.accept().unwrap();
        Self { from, to, source_qemu, destination_qemu, place, cables, gate }
    }
}

fn join(mut from: TcpStream, mut to: TcpStream, gate: Arc<Gate>) {
    thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut bytes)
            && n > 0
        {
            gate.pass();
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Header and configuration of a stream.
fn beginning() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07".to_vec();
    let machine = b"pc-q35-7.2";
    bytes.extend((machine.len() as u32).to_be_bytes());
    bytes.extend(machine);
    bytes
}

/// `ram` START with one block `pc.ram`.
fn ram_start(length: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend(b"\x03ram");
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(4u32.to_be_bytes());
    bytes.extend((length | 4).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend(length.to_be_bytes());
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART with one page of `fill` at `offset`.
fn part(offset: u64, fill: u8) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend((offset | 8).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend([fill; 4096]);
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART that says that the page at `offset` is zero.
fn zero_part(offset: u64) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend((offset | 2).to_be_bytes());
    bytes.extend(b"\x06pc.ram\0");
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART without pages.
fn empty_part() -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

fn file_of(place: &Place, size: u64, length: u64) -> Vec<BlockPlacement> {
    let file = place.path("memory");
    File::create(&file).unwrap().set_len(size).unwrap();
    vec![BlockPlacement { block: "pc.ram".into(), file, offset: 0, length }]
}

#[test]
fn a_cut_connection_fails_both_sides() {
    let mut pair = Pair::new(|_| Vec::new());
    pair.source_qemu.write_all(&[beginning(), ram_start(1 << 20)].concat()).unwrap();
    let mut got = vec![0; beginning().len()];
    pair.destination_qemu.read_exact(&mut got).unwrap();
    assert_eq!(got, beginning());
    for cable in &pair.cables {
        let _ = cable.shutdown(Shutdown::Both);
    }
    assert!(pair.from.agent.failure().contains("host-b"));
    assert!(pair.to.agent.failure().contains("host-a"));
    // QEMU is let go on both sides.
    assert_eq!(pair.source_qemu.read(&mut [0; 1]).unwrap_or(0), 0);
    let _ = pair.destination_qemu.read_to_end(&mut Vec::new());
    end(pair.from);
    end(pair.to);
}

#[test]
fn a_stream_that_is_none_fails_both_sides() {
    let mut pair = Pair::new(|_| Vec::new());
    pair.source_qemu.write_all(b"HTTP/1.1 200 OK and so on and on").unwrap();
    assert!(pair.from.agent.failure().contains("stream"), "{:?}", pair.from.agent.seen);
    assert!(pair.to.agent.failure().contains("stream"), "the reason travels");
    end(pair.from);
    end(pair.to);
}

#[test]
fn a_qemu_that_closes_early_fails_both_sides() {
    let mut pair = Pair::new(|_| Vec::new());
    pair.source_qemu.write_all(&beginning()).unwrap();
    pair.source_qemu.shutdown(Shutdown::Both).unwrap();
    assert!(pair.from.agent.failure().contains("QEMU"));
    assert!(pair.to.agent.failure().contains("QEMU"));
    end(pair.from);
    end(pair.to);
}

#[test]
fn memory_of_another_size_is_refused_before_anything_is_written() {
    let mut pair = Pair::new(|place| file_of(place, 1 << 20, 1 << 20));
    let mut stream = beginning();
    stream.extend(ram_start(2 << 20));
    stream.extend(part(0, 7));
    pair.source_qemu.write_all(&stream).unwrap();
    let why = pair.to.agent.failure();
    assert!(why.contains("pc.ram") && why.contains("2097152"), "{why}");
    assert!(std::fs::read(pair.place.path("memory")).unwrap().iter().all(|b| *b == 0));
    end(pair.from);
    end(pair.to);
}

#[test]
fn held_means_that_nothing_is_read() {
    let mut pair = Pair::new(|place| file_of(place, 1 << 20, 1 << 20));
    let mut stream = beginning();
    stream.extend(ram_start(1 << 20));
    stream.extend(part(8192, 7));
    pair.source_qemu.write_all(&stream).unwrap();
    let done = |e: &CarrierEvent| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == 4096).then_some(()),
        _ => None,
    };
    pair.from.agent.wait(done);
    pair.from.agent.send(CarrierCommand::Hold);
    pair.from.agent.is(&CarrierEvent::Held);
    pair.source_qemu.write_all(&part(0, 9)).unwrap();
    // The note is sent after the page was written, and arrives before it.
    pair.from.agent.send(CarrierCommand::Note { text: "held".into() });
    pair.to.agent.is(&CarrierEvent::Note { text: "held".into() });
    let page = |at: usize| std::fs::read(pair.place.path("memory")).unwrap()[at];
    assert_eq!((page(0), page(8192)), (0, 7));
    pair.from.agent.send(CarrierCommand::Release);
    pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => {
            (c.done_bytes == 8192 && c.unacknowledged_bytes == 0).then_some(())
        }
        _ => None,
    });
    assert_eq!((page(0), page(8192)), (9, 7));
    // An agent that comes later is told everything again.
    let mut again = Agent::connect(&pair.place.path("host-a.control"));
    again.is(&CarrierEvent::Held);
    again.send(CarrierCommand::End);
    assert!(pair.to.agent.failure().contains("ended"));
    let _ = pair.from.thread.join().unwrap();
    end(pair.to);
}

#[test]
fn nothing_is_lost_while_the_link_stands_still() {
    let mut pair = Pair::new(|place| file_of(place, 1 << 20, 1 << 20));
    let mut stream = beginning();
    stream.extend(ram_start(1 << 20));
    stream.extend(part(8192, 7));
    pair.source_qemu.write_all(&stream).unwrap();
    pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => {
            (c.done_bytes == 4096 && c.unacknowledged_bytes == 0).then_some(())
        }
        _ => None,
    });
    // More little frames than ever wait on a link that works.
    pair.from.agent.send(CarrierCommand::Tail);
    pair.gate.set(true);
    pair.source_qemu.write_all(&empty_part().repeat(5000)).unwrap();
    pair.source_qemu.write_all(&zero_part(8192)).unwrap();
    pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == 8192).then_some(()),
        _ => None,
    });
    pair.from.agent.send(CarrierCommand::Note { text: "after".into() });
    pair.gate.set(false);
    let mut rest = pair.destination_qemu.try_clone().unwrap();
    thread::spawn(move || std::io::copy(&mut rest, &mut std::io::sink()));
    pair.to.agent.is(&CarrierEvent::Note { text: "after".into() });
    assert_eq!(std::fs::read(pair.place.path("memory")).unwrap()[8192], 0, "the zero page came");
    end(pair.from);
    end(pair.to);
}
