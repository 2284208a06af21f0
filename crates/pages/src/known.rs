//! What the destination holds, as far as it was sent: which pages have travelled, and
//! fingerprints of those that travel again and again.

use std::collections::{BTreeMap, HashMap};

use crate::{PAGE_SIZE, Prints};

/// Bytes of memory that a page's fingerprints take, the table's own included.
const ENTRY: usize = 8 * crate::PARTS + 48;

/// Bits of the pages of one block.
type Bits = Vec<u64>;

/// One page, by its block and number.
pub type Place = (u16, u64);

/// The pages that were sent. Two bits for each page, and fingerprints of no more pages
/// than were allowed for.
#[derive(Debug, Default)]
pub struct Known {
    /// Sent at least once, and more than once.
    sent: BTreeMap<u16, (Bits, Bits)>,
    slots: Vec<Slot>,
    places: HashMap<Place, u32>,
    most: usize,
    hand: usize,
    pass: u32,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    prints: Prints,
    /// The pass in which the page was last sent.
    pass: u32,
}

impl Known {
    /// A table that keeps fingerprints in no more than `bytes` of memory.
    pub fn new(bytes: usize) -> Self {
        Self { most: bytes / ENTRY, ..Self::default() }
    }

    /// A block with this index in the stream, of `length` bytes.
    pub fn add_block(&mut self, block: u16, length: u64) {
        let words = (length / PAGE_SIZE as u64).div_ceil(64) as usize;
        self.sent.insert(block, (vec![0; words], vec![0; words]));
    }

    /// Another pass over memory begins. What was not sent in the last two may be forgotten.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Notes that a page is sent; whether it was sent before.
    pub fn sent(&mut self, (block, page): Place) -> bool {
        let Some((once, again)) = self.sent.get_mut(&block) else { return false };
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        let (Some(once), Some(again)) = (once.get_mut(word), again.get_mut(word)) else {
            return false;
        };
        let before = *once & bit != 0;
        *once |= bit;
        *again |= if before { bit } else { 0 };
        before
    }

    /// Fingerprints of the page as it was last sent.
    pub fn prints(&self, place: Place) -> Option<&Prints> {
        self.places.get(&place).and_then(|slot| self.slots.get(*slot as usize)).map(|s| &s.prints)
    }

    /// The page is sent with these fingerprints; remembered if there is room, or if something
    /// else was not sent for long.
    pub fn keep(&mut self, place: Place, prints: Prints) {
        let slot = Slot { place, prints, pass: self.pass };
        if let Some(at) = self.places.get(&place)
            && let Some(found) = self.slots.get_mut(*at as usize)
        {
            *found = slot;
        } else if self.slots.len() < self.most {
            self.places.insert(place, self.slots.len() as u32);
            self.slots.push(slot);
        } else if let Some(old) = self.slots.get_mut(self.hand) {
            // One look at each request, so that a set larger than the table keeps a part
            // of itself there instead of chasing itself out.
            if old.pass + 2 < self.pass {
                self.places.remove(&old.place);
                self.places.insert(place, self.hand as u32);
                *old = slot;
            }
            self.hand = (self.hand + 1) % self.slots.len();
        }
    }

    /// The page is sent, and what it holds is not remembered.
    pub fn forget(&mut self, place: Place) {
        let Some(at) = self.places.remove(&place) else { return };
        let at = at as usize;
        if at < self.slots.len() {
            self.slots.swap_remove(at);
            if let Some(moved) = self.slots.get(at) {
                self.places.insert(moved.place, at as u32);
            }
        }
    }

    /// The next row of at most `most` pages of a block that were sent more than once, from
    /// page `from` on.
    pub fn sent_again(&self, block: u16, from: u64, most: u64) -> Option<std::ops::Range<u64>> {
        let (_, again) = self.sent.get(&block)?;
        let is = |page: u64| {
            again.get((page / 64) as usize).is_some_and(|word| word & (1 << (page % 64)) != 0)
        };
        let pages = again.len() as u64 * 64;
        let mut start = from;
        while start < pages && !is(start) {
            let word = again.get((start / 64) as usize).copied().unwrap_or(0) >> (start % 64);
            start = if word == 0 { (start / 64 + 1) * 64 } else { start + 1 };
        }
        let end = (start..pages.min(start + most)).find(|page| !is(*page));
        let end = end.unwrap_or(pages.min(start + most));
        (start < end).then_some(start..end)
    }
}
