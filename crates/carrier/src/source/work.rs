//! What each page is sent as: nothing, zero, a copy, what changed, or whole.

use std::time::Instant;

use pages::{
    Batch, Choice, Kind as Packing, MOST_PARTS, PAGE_SIZE, PRINTS, Packed, Packer, Place, Prints,
    Pushed, Rows, ZEROS,
};
use types::{Force, PageCounts};
use wire::{HEADER, Kind};

use super::Shared;
use super::desk::{Desk, Fact};
use crate::CarrierError;
use crate::outbox::Buffer;

type Page = [u8; PAGE_SIZE];

/// One thread's tools, and what it has collected to be sent.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    desk: &'a Desk,
    packer: Packer,
    whole: Batch,
    changes: Rows,
    copies: Rows,
    /// Of the pages in `whole`: what they hold.
    contents: Vec<(Place, u64)>,
    counts: PageCounts,
    zeros: Prints,
    /// What is forced now, and of what is forced in turn, where we are.
    force: Option<Force>,
    turn: usize,
}

/// A page's content, as a question of how it may travel.
struct Offer<'a> {
    place: Place,
    page: &'a Page,
    fact: Fact,
    /// Of the page as it is, where somebody wants them.
    prints: Option<Prints>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared) -> Result<Self, CarrierError> {
        let desk = &shared.crew.desk;
        Ok(Self {
            shared,
            desk,
            packer: Packer::new().map_err(|e| CarrierError::Qemu(e.to_string()))?,
            whole: Batch::new(),
            changes: Rows::changes(),
            copies: Rows::copies(),
            contents: Vec::new(),
            counts: PageCounts::default(),
            zeros: desk.printer.prints(&[0; PAGE_SIZE]),
            force: desk.force,
            turn: 0,
        })
    }

    /// Sends a batch as the reader collected it.
    pub(super) fn send(&mut self, batch: &Batch) {
        self.next_force();
        let block = batch.block();
        for number in numbers(batch.zero()) {
            self.send_zero((block, number));
        }
        let may_ask = self.may_ask();
        let mut asked = Batch::new();
        for (number, page) in numbers(batch.data()).zip(contents(batch)) {
            let place = (block, number);
            let fact = self.desk.fact(place);
            if fact.told.is_some_and(|told| told == self.desk.hasher.hash(page)) {
                self.counts.present += 1;
                let prints = fact.before.then(|| self.desk.printer.prints(page));
                self.keep(place, prints);
                continue;
            }
            let there = fact.before || fact.told.is_some_and(|told| told != ZEROS);
            let unknown = fact.prints.is_none() || self.force == Some(Force::Part);
            if may_ask && fact.placed && there && unknown {
                // It holds no more pages than the batch does.
                let _ = asked.push(block, number, page);
                continue;
            }
            let prints = fact.before.then(|| self.desk.printer.prints(page));
            self.send_page(&Offer { place, page, fact, prints });
        }
        self.flush();
        if !asked.is_empty()
            && let Some(batch) = self.shared.crew.ask(self.shared, asked)
        {
            self.send_held(&batch, std::iter::repeat(None));
        }
    }

    /// Sends pages of which the destination has told fingerprints.
    pub(super) fn send_answered(&mut self, batch: &Batch, prints: &[u8]) {
        let (prints, _) = prints.as_chunks::<PRINTS>();
        self.force = self.desk.force.map(|_| Force::Delta);
        self.send_held(batch, prints.iter().map(|old| Some(Prints::read(old))));
    }

    /// Sends pages that were held back, of which the destination has something.
    fn send_held(&mut self, batch: &Batch, there: impl Iterator<Item = Option<Prints>>) {
        for ((number, page), old) in numbers(batch.data()).zip(contents(batch)).zip(there) {
            let fact = Fact { before: true, told: None, prints: old, placed: true };
            let prints = Some(self.desk.printer.prints(page));
            let place = (batch.block(), number);
            self.send_page(&Offer { place, page, fact, prints });
        }
        self.flush();
    }

    /// A page is asked about where its bytes are dearer than the answer's, and nobody waits.
    fn may_ask(&self) -> bool {
        let tail = self.shared.flow().tail_since().is_some();
        match self.force {
            _ if tail => false,
            Some(Force::Part) => true,
            Some(_) => false,
            None => self.desk.link_is_short(),
        }
    }

    /// What is forced for the next batch.
    fn next_force(&mut self) {
        const ALL: [Force; 7] = [
            Force::Raw,
            Force::Copy,
            Force::Fast,
            Force::Delta,
            Force::Zstd,
            Force::Part,
            Force::Strong,
        ];
        self.force = self.desk.force;
        if self.force == Some(Force::Mixed) {
            self.turn = (self.turn + 1) % ALL.len();
            self.force = ALL.get(self.turn).copied();
        }
    }

    /// How to pack the next batch.
    fn choice(&self) -> Choice {
        match self.force {
            Some(Force::Raw) => Choice::Raw,
            Some(Force::Fast) => Choice::Fast,
            Some(Force::Zstd) => Choice::Zstd,
            Some(Force::Strong) => Choice::Strong,
            _ => self.desk.choice(),
        }
    }

    fn send_zero(&mut self, place: Place) {
        let fact = self.desk.fact(place);
        let prints = fact.before.then_some(self.zeros);
        if fact.told == Some(ZEROS) {
            self.counts.present += 1;
            return self.keep(place, prints);
        }
        self.desk.sent(place, prints);
        if self.whole.push_zero(place.0, place.1) == Pushed::Full {
            self.flush();
            let _ = self.whole.push_zero(place.0, place.1);
        }
    }

    /// The destination has the page already, and the index goes on telling so.
    fn keep(&self, place: Place, prints: Option<Prints>) {
        if let Some(prints) = prints {
            self.desk.known(place, prints);
        }
    }

    fn send_page(&mut self, offer: &Offer<'_>) {
        let force = self.force;
        let Offer { place, fact, prints, .. } = offer;
        self.desk.sent(*place, *prints);
        if fact.placed {
            let changed = fact.prints.zip(*prints).map(|(old, new)| old.differing(&new));
            if changed == Some(0) {
                self.counts.present += 1;
                return;
            }
            if let Some(mask) = changed
                && may_change(mask, force)
            {
                return self.send_changes(offer, mask);
            }
            if may_copy(force) {
                return self.send_first_or_copy(offer);
            }
        }
        self.send_whole(*place, offer.page);
    }

    fn send_changes(&mut self, offer: &Offer<'_>, mask: u32) {
        let check = self.desk.printer.check(offer.page);
        let push =
            |rows: &mut Rows| rows.change(offer.place.0, offer.place.1, offer.page, (mask, check));
        if push(&mut self.changes) == Pushed::Full {
            self.flush_changes();
            let _ = push(&mut self.changes);
        }
    }

    fn send_first_or_copy(&mut self, offer: &Offer<'_>) {
        let (block, number) = offer.place;
        let content = self.desk.printer.content(offer.page);
        let Some(of) = self.desk.seen(block, content) else {
            self.send_whole(offer.place, offer.page);
            self.contents.push((offer.place, content));
            return;
        };
        let check = self.desk.printer.check(offer.page);
        if self.copies.copy(block, number, of, check) == Pushed::Full {
            self.flush_copies();
            let _ = self.copies.copy(block, number, of, check);
        }
    }

    fn send_whole(&mut self, place: Place, page: &Page) {
        if self.whole.push(place.0, place.1, page) == Pushed::Full {
            self.flush_whole();
            let _ = self.whole.push(place.0, place.1, page);
        }
    }

    /// Sends what is collected.
    fn flush(&mut self) {
        self.flush_whole();
        self.flush_changes();
        self.flush_copies();
        let counts = std::mem::take(&mut self.counts);
        let mut counted = self.shared.counted();
        let PageCounts { zero, present, delta, compressed, raw } = counts;
        counted.done_bytes += (zero + present + delta + compressed + raw) * PAGE_SIZE as u64;
        counted.pages.zero += zero;
        counted.pages.present += present;
        counted.pages.delta += delta;
        counted.pages.compressed += compressed;
        counted.pages.raw += raw;
    }

    fn flush_whole(&mut self) {
        if self.whole.is_empty() {
            return;
        }
        let choice = self.choice();
        let before = self.whole.bytes().len();
        let begun = Instant::now();
        let packed = self.packer.pack(&self.whole, choice);
        let (kind, after) = (packed.head.kind, packed.body.len());
        let (zero, data) = (packed.head.zero_pages() as u64, packed.head.data_pages() as u64);
        let buffer = written(self.shared, &packed);
        self.desk.packed(choice, before, after, begun.elapsed());
        self.counts.zero += zero;
        match kind {
            Packing::Raw => self.counts.raw += data,
            _ => self.counts.compressed += data,
        }
        // Zero pages weigh as much as it takes to name them: nothing waits without bound.
        self.push(buffer, before as u64);
        self.whole.clear();
        // Only now may other pages be copies of these.
        self.desk.add_seen(&mut self.contents);
    }

    fn flush_changes(&mut self) {
        let pages = self.changes.pages() as u64;
        if pages > 0 {
            let choice = match self.choice() {
                Choice::Raw => Choice::Raw,
                _ => Choice::Fast,
            };
            let buffer = written(self.shared, &self.packer.pack_rows(&self.changes, choice));
            self.push(buffer, pages * PAGE_SIZE as u64);
            self.counts.delta += pages;
            self.changes.clear();
        }
    }

    fn flush_copies(&mut self) {
        let pages = self.copies.pages() as u64;
        if pages > 0 {
            let buffer = written(self.shared, &self.packer.pack_rows(&self.copies, Choice::Fast));
            self.push(buffer, pages * PAGE_SIZE as u64);
            self.counts.present += pages;
            self.copies.clear();
        }
    }

    /// Queues a batch that stands for `before` bytes of guest memory.
    fn push(&self, buffer: Buffer, before: u64) {
        let bytes = (buffer.len() - HEADER) as u64;
        self.shared.flow().sent(Instant::now());
        self.shared.outbox().push(Kind::Pages, buffer, bytes.max(before));
        self.desk.linked(bytes);
    }
}

fn written(shared: &Shared, packed: &Packed<'_>) -> Buffer {
    let mut buffer = shared.outbox().buffer();
    packed.head.write(&mut buffer);
    buffer.extend_from_slice(packed.body);
    buffer
}

fn may_change(mask: u32, force: Option<Force>) -> bool {
    match force {
        None | Some(Force::Copy) => mask.count_ones() <= MOST_PARTS,
        Some(force) => matches!(force, Force::Delta | Force::Part),
    }
}

fn may_copy(force: Option<Force>) -> bool {
    matches!(force, None | Some(Force::Copy | Force::Delta | Force::Part))
}

fn numbers(runs: &[pages::Run]) -> impl Iterator<Item = u64> {
    runs.iter().flat_map(|run| run.first..run.end())
}

fn contents(batch: &Batch) -> impl Iterator<Item = &Page> {
    batch.bytes().as_chunks::<PAGE_SIZE>().0.iter()
}
