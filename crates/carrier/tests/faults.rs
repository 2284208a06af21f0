//! Wrong peers, a line that stands still, streams that are none.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use types::{CarrierCommand, CarrierEvent, CarrierSide, HostId, Outage};

use support::pair::Pair;
use support::{
    Agent, Place, Side, beginning, empty_part, end, file_of, part, ram_start, start, zero_part,
};

fn connected(side: &mut Side) {
    side.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
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
        outage: Outage::default(),
        force: None,
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
    pair.line.set(true);
    pair.source_qemu.write_all(&empty_part().repeat(5000)).unwrap();
    pair.source_qemu.write_all(&zero_part(8192)).unwrap();
    pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == 8192).then_some(()),
        _ => None,
    });
    pair.from.agent.send(CarrierCommand::Note { text: "after".into() });
    pair.line.set(false);
    pair.swallow();
    pair.to.agent.is(&CarrierEvent::Note { text: "after".into() });
    assert_eq!(std::fs::read(pair.place.path("memory")).unwrap()[8192], 0, "the zero page came");
    end(pair.from);
    end(pair.to);
}

#[test]
fn a_stranger_that_says_nothing_keeps_nobody_waiting() {
    let place = Place::new();
    let _qemu = UnixListener::bind(place.path("host-b.qemu")).unwrap();
    let mut to = start(place.destination(Vec::new()));
    let port = to.agent.port();
    let silent: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let begun = Instant::now();
    let mut from = start(place.source(port, false));
    connected(&mut from);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    drop(silent);
    end(from);
    end(to);
}

#[test]
fn empty_passes_are_paced_until_the_tail() {
    let mut pair = Pair::new(|place| file_of(place, 1 << 20, 1 << 20));
    let stream = [beginning(), ram_start(1 << 20)].concat();
    pair.source_qemu.write_all(&stream).unwrap();
    pair.destination_qemu.read_exact(&mut vec![0; stream.len()]).unwrap();
    let part = empty_part();
    let mut take = |parts: usize| {
        let begun = Instant::now();
        let mut bytes = vec![0; parts * part.len()];
        pair.destination_qemu.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, part.repeat(parts), "nothing is left out");
        begun.elapsed()
    };
    // After one empty pass the next ones are slow: 64 bytes, three passes, in 5 ms.
    pair.source_qemu.write_all(&part).unwrap();
    take(1);
    let mut writer = pair.source_qemu.try_clone().unwrap();
    let many = part.repeat(2000);
    thread::spawn(move || writer.write_all(&many));
    assert!(take(60) > Duration::from_millis(80));
    pair.from.agent.send(CarrierCommand::Tail);
    // Paced, this would take more than three seconds.
    assert!(take(1900) < Duration::from_secs(2));
    end(pair.from);
    end(pair.to);
}

#[test]
fn what_is_in_flight_is_bounded_until_the_tail() {
    const MIB: u64 = 1 << 20;
    let mut pair = Pair::new(|place| file_of(place, 64 * MIB, 64 * MIB));
    pair.line.set(true);
    let mut writer = pair.source_qemu.try_clone().unwrap();
    let (wrote, written) = std::sync::mpsc::channel();
    thread::spawn(move || {
        writer.write_all(&[beginning(), ram_start(64 * MIB)].concat()).unwrap();
        for page in 0..16 * 256 {
            writer.write_all(&part(page * 4096, 7)).unwrap();
            wrote.send(()).unwrap();
        }
    });
    let in_flight = |agent: &mut Agent| {
        agent.wait(|e| match e {
            CarrierEvent::Counters(c) => Some(c.unacknowledged_bytes),
            _ => None,
        })
    };
    let mut last = 0;
    // Until QEMU's socket is full: no page goes in for a tenth of a second.
    while written.recv_timeout(Duration::from_millis(100)).is_ok() {
        last += 1;
    }
    assert!(last < 16 * 256, "QEMU was made to wait");
    let flying = (0..3).map(|_| in_flight(&mut pair.from.agent)).max().unwrap();
    // The least window, and what one read may bring on top of it.
    assert!((MIB..=2 * MIB + 300_000).contains(&flying), "{flying}");
    pair.from.agent.send(CarrierCommand::Tail);
    while last < 16 * 256 {
        written.recv_timeout(Duration::from_secs(20)).expect("the tail is taken at once");
        last += 1;
    }
    while in_flight(&mut pair.from.agent) < 15 * MIB {}
    pair.line.set(false);
    pair.swallow();
    while in_flight(&mut pair.from.agent) > 0 {}
    let memory = std::fs::read(pair.place.path("memory")).unwrap();
    assert!(memory[..16 << 20].iter().all(|b| *b == 7));
    end(pair.from);
    end(pair.to);
}
