//! The line breaks, in every phase: nothing is lost, nothing doubled, and not for ever.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use types::{CarrierCommand, CarrierEvent, Counters, Outage};

use support::pair::Pair;
use support::{Agent, Place, beginning, empty_part, end, file_of, part, ram_start};

const MIB: u64 = 1 << 20;
const PAGES: u64 = 2048;

/// `ram` END, and what a device might leave.
fn tail() -> Vec<u8> {
    let mut bytes = empty_part();
    bytes[0] = 3;
    bytes.extend(b"device state".repeat(10_000));
    bytes
}

fn resumed(agent: &mut Agent) -> u64 {
    agent.wait(|e| match e {
        CarrierEvent::LinkResumed { resent_bytes, .. } => Some(*resent_bytes),
        _ => None,
    })
}

fn counters(agent: &mut Agent, want: impl Fn(&Counters) -> bool) -> Counters {
    agent.wait(|e| match e {
        CarrierEvent::Counters(c) if want(c) => Some(*c),
        _ => None,
    })
}

/// Counters of now: whatever was told before is passed over.
fn fresh(agent: &mut Agent) -> Counters {
    let begun = Instant::now();
    let mut last = counters(agent, |_| true);
    while begun.elapsed() < Duration::from_millis(250) {
        last = counters(agent, |_| true);
    }
    last
}

fn memory(place: &Place) -> Vec<types::BlockPlacement> {
    file_of(place, PAGES * 4096, PAGES * 4096)
}

#[test]
fn a_line_that_breaks_in_every_phase_loses_and_doubles_nothing() {
    let mut pair = Pair::new(memory);
    let mut sent = [beginning(), ram_start(PAGES * 4096)].concat();
    pair.source_qemu.write_all(&sent).unwrap();
    let mut reader = pair.destination_qemu.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all);
        all
    });
    let mut writer = pair.source_qemu.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for round in 1..=2 {
            for page in 0..PAGES {
                writer.write_all(&part(page * 4096, (page % 250) as u8 + round)).unwrap();
            }
        }
    });
    // Three times in mid-copy; QEMU goes on writing all the while.
    let mut before = 0;
    for cut in 1..=3 {
        counters(&mut pair.from.agent, |c| c.done_bytes > cut * 3 * MIB);
        pair.line.set(true);
        thread::sleep(Duration::from_millis(300));
        let flying = fresh(&mut pair.from.agent).unacknowledged_bytes;
        pair.line.refuse(true);
        pair.line.cut();
        pair.line.set(false);
        thread::sleep(Duration::from_millis(300));
        pair.line.refuse(false);
        let resent = resumed(&mut pair.from.agent);
        assert!(
            resent - before <= flying + flying / 64 + 64 * 1024,
            "{resent} - {before}, {flying} unacknowledged"
        );
        before = resent;
    }
    writing.join().unwrap();
    // And once in the tail, where the line is also cut in the middle of a frame.
    pair.from.agent.send(CarrierCommand::Tail);
    pair.line.set(true);
    pair.from.agent.send(CarrierCommand::Note { text: "stopped".into() });
    pair.source_qemu.write_all(&tail()).unwrap();
    thread::sleep(Duration::from_millis(100));
    pair.line.cut();
    pair.line.set(false);
    resumed(&mut pair.from.agent);
    // In either order: the agent's command and QEMU's bytes come by different ways.
    let both = [CarrierEvent::Note { text: "stopped".into() }, CarrierEvent::Sealed];
    while !both.iter().all(|event| pair.to.agent.seen.contains(event)) {
        pair.to.agent.wait(|event| both.contains(event).then_some(()));
    }
    // The return path over yet another link.
    pair.destination_qemu.write_all(&[0, 2, 0, 4, 0, 0, 0, 9]).unwrap();
    let mut answer = [0; 8];
    pair.source_qemu.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0, 2, 0, 4, 0, 0, 0, 9]);
    pair.line.cut();
    resumed(&mut pair.from.agent);
    pair.destination_qemu.write_all(&[0, 1, 0, 4, 0, 0, 0, 0]).unwrap();
    pair.source_qemu.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0, 1, 0, 4, 0, 0, 0, 0]);
    pair.source_qemu.shutdown(Shutdown::Write).unwrap();
    pair.destination_qemu.shutdown(Shutdown::Both).unwrap();
    let got = reading.join().unwrap();
    sent.extend(empty_part().repeat(2 * PAGES as usize));
    sent.extend(tail());
    assert!(got == sent, "the stream came whole: {} of {} bytes", got.len(), sent.len());
    let file = std::fs::read(pair.place.path("memory")).unwrap();
    for (number, page) in file.chunks(4096).enumerate() {
        assert!(page.iter().all(|b| *b == (number % 250) as u8 + 2), "page {number}");
    }
    end(pair.from);
    end(pair.to);
}

#[test]
fn an_outage_is_borne_as_long_as_the_policy_says() {
    let bearable = Outage { copy_seconds: 1, tail_seconds: 30 };
    let mut pair = Pair::bearing(bearable, memory);
    pair.source_qemu.write_all(&[beginning(), ram_start(PAGES * 4096)].concat()).unwrap();
    counters(&mut pair.from.agent, |_| true);
    pair.line.refuse(true);
    pair.line.cut();
    let begun = Instant::now();
    let why = pair.from.agent.failure();
    assert!(why.contains("host-b") && why.contains("within the 1 s"), "{why}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    // QEMU is let go, and goes on by itself.
    assert_eq!(pair.source_qemu.read(&mut [0; 1]).unwrap_or(0), 0);
    end(pair.from);
    end(pair.to);
}

#[test]
fn in_the_tail_an_outage_is_borne_for_less() {
    let bearable = Outage { copy_seconds: 600, tail_seconds: 1 };
    let mut pair = Pair::bearing(bearable, memory);
    pair.source_qemu.write_all(&[beginning(), ram_start(PAGES * 4096)].concat()).unwrap();
    pair.line.refuse(true);
    pair.line.cut();
    pair.from.agent.wait(|e| matches!(e, CarrierEvent::LinkLost { .. }).then_some(()));
    thread::sleep(Duration::from_millis(1500));
    pair.from.agent.send(CarrierCommand::Tail);
    let why = pair.from.agent.failure();
    assert!(why.contains("within the 1 s"), "{why}");
    end(pair.from);
    end(pair.to);
}

#[test]
fn a_line_that_is_silent_counts_as_broken() {
    let mut pair = Pair::new(memory);
    pair.source_qemu.write_all(&[beginning(), ram_start(PAGES * 4096)].concat()).unwrap();
    pair.line.set(true);
    pair.source_qemu.write_all(&part(0, 7)).unwrap();
    // Connections stand, nothing passes: after a while the destination ends them.
    pair.to.agent.wait(|e| matches!(e, CarrierEvent::LinkLost { .. }).then_some(()));
    pair.line.set(false);
    resumed(&mut pair.to.agent);
    counters(&mut pair.from.agent, |c| c.done_bytes == 4096 && c.unacknowledged_bytes == 0);
    assert_eq!(std::fs::read(pair.place.path("memory")).unwrap()[0], 7);
    end(pair.from);
    end(pair.to);
}
