//! Every way of sending a page, forced in turn and mixed, over links that are cut: the
//! destination's memory is the source's in the end, to the byte.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::thread;

use types::{CarrierCommand, CarrierEvent, CarrierSide, Force, PageCounts};

use support::pair::Pair;
use support::{beginning, empty_part, end, file_of, ram_start};

const PAGE: usize = 4096;
const PAGES: usize = 900;
const PASSES: usize = 5;

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A guest that writes to its memory in many ways.
struct Guest {
    memory: Vec<u8>,
    chance: Chance,
}

impl Guest {
    fn write(&mut self, page: usize) {
        let other = self.chance.below(PAGES) * PAGE;
        let kind = self.chance.below(8);
        let at = self.chance.below(PAGE - 8);
        let seed = self.chance.next();
        let range = page * PAGE..(page + 1) * PAGE;
        match kind {
            0 => self.memory[range].fill(0),
            1 => self.memory.copy_within(other..other + PAGE, page * PAGE),
            2 | 3 => {
                let mut chance = Chance(seed | 1);
                self.memory[range].fill_with(|| chance.next() as u8);
            }
            4 => self.memory[range].fill(seed as u8),
            // A few bytes.
            _ => self.memory[range][at..at + 8].copy_from_slice(&seed.to_le_bytes()),
        }
    }

    /// A part of the stream with these pages, in order.
    fn part(&self, pages: &[usize], last: bool) -> Vec<u8> {
        let mut bytes = vec![if last { 3 } else { 2 }];
        bytes.extend(2u32.to_be_bytes());
        for (at, page) in pages.iter().enumerate() {
            let content = &self.memory[page * PAGE..(page + 1) * PAGE];
            let zero = content.iter().all(|b| *b == 0);
            let flags = if zero { 2 } else { 8 } | if at > 0 { 0x20 } else { 0 };
            bytes.extend(((page * PAGE) as u64 | flags).to_be_bytes());
            if at == 0 {
                bytes.extend(b"\x06pc.ram");
            }
            if zero { bytes.push(0) } else { bytes.extend(content) }
        }
        bytes.extend(0x10u64.to_be_bytes());
        bytes.push(0x7e);
        bytes.extend(2u32.to_be_bytes());
        bytes
    }
}

/// What travelled.
fn travels(how: Option<Force>, image: bool, cuts: bool) -> PageCounts {
    let mut guest = Guest { memory: vec![0; PAGES * PAGE], chance: Chance(0x9e37_79b9_7f4a_7c15) };
    (0..PAGES).filter(|page| page % 7 > 0).for_each(|page| guest.write(page));
    let old = guest.memory.clone();
    (0..PAGES).filter(|page| page % 5 == 0).for_each(|page| guest.write(page));
    let mut pair = Pair::changed(
        |place| {
            let blocks = file_of(place, (PAGES * PAGE) as u64, (PAGES * PAGE) as u64);
            if image {
                fs::write(place.path("memory"), &old).unwrap();
            }
            blocks
        },
        |config| match &mut config.side {
            CarrierSide::Source { force, .. } => *force = how,
            CarrierSide::Destination { image: holds, .. } => *holds = image,
        },
    );
    pair.swallow();
    pair.source_qemu.write_all(&[beginning(), ram_start((PAGES * PAGE) as u64)].concat()).unwrap();
    let all: Vec<usize> = (0..PAGES).collect();
    let mut sent = 0;
    for pass in 0..PASSES {
        let dirty: Vec<usize> = match pass {
            0 => all.clone(),
            _ => all.iter().copied().filter(|_| guest.chance.below(3) == 0).collect(),
        };
        if pass > 0 {
            dirty.iter().for_each(|page| guest.write(*page));
        }
        for some in dirty.chunks(200) {
            pair.source_qemu.write_all(&guest.part(some, false)).unwrap();
            if cuts {
                pair.line.cut();
            }
        }
        sent += dirty.len();
    }
    pair.from.agent.send(CarrierCommand::Tail);
    let tail = empty_part();
    pair.source_qemu.write_all(&[&[3], &tail[1..]].concat()).unwrap();
    pair.to.agent.is(&CarrierEvent::Sealed);
    let pages = pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == (sent * PAGE) as u64).then_some(c.pages),
        _ => None,
    });
    let memory = fs::read(pair.place.path("memory")).unwrap();
    let wrong: Vec<usize> = (0..PAGES)
        .filter(|page| {
            let range = page * PAGE..(page + 1) * PAGE;
            memory[range.clone()] != guest.memory[range]
        })
        .collect();
    assert_eq!(wrong, [0; 0], "{how:?}, image {image}, cuts {cuts}");
    end(pair.from);
    end(pair.to);
    pages
}

#[test]
fn every_way_forced() {
    use Force::{Copy, Delta, Fast, Mixed, Part, Raw, Strong, Zstd};
    type Check = fn(&PageCounts) -> bool;
    let cases: [(Force, Check); 8] = [
        (Raw, |p| p.delta == 0 && p.present == 0 && p.compressed == 0 && p.raw > 1000),
        (Fast, |p| p.delta == 0 && p.present == 0 && p.compressed > 0),
        (Zstd, |p| p.delta == 0 && p.present == 0 && p.compressed > 0),
        (Strong, |p| p.delta == 0 && p.present == 0 && p.compressed > 0),
        (Copy, |p| p.present > 50),
        (Delta, |p| p.delta > 200),
        (Part, |p| p.delta > 200),
        (Mixed, |p| p.delta > 0 && p.raw > 0),
    ];
    thread::scope(|scope| {
        for (force, check) in cases {
            scope.spawn(move || {
                for (image, cuts) in [(false, false), (true, true)] {
                    let pages = travels(Some(force), image, cuts);
                    assert!(image || check(&pages), "{force:?}: {pages:?}");
                }
            });
        }
    });
}

#[test]
fn by_itself() {
    for (image, cuts) in [(false, false), (false, true), (true, false), (true, true)] {
        let pages = travels(None, image, cuts);
        assert!(pages.zero + pages.raw + pages.compressed > 0, "{pages:?}");
    }
}
