//! Collects pages of one block.

use crate::{Head, Kind, MAX_PAGES, MAX_RUNS, MAX_ZERO_PAGES, PAGE_SIZE, Run};

/// Whether the bytes are all zero; stops at the first that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<128>();
    chunks.iter().all(|chunk| chunk.iter().fold(0, |or, byte| or | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// What became of a page that was offered to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is in the batch.
    Taken,
    /// The batch is full, of another block, or already beyond this page: send
    /// it, clear it and offer the page again.
    Full,
}

/// Pages of one block in rising order, at most [`MAX_PAGES`] with contents and
/// [`MAX_ZERO_PAGES`] without. A page is in a batch at most once, so the order
/// in which a batch is applied does not matter.
#[derive(Debug, Default)]
pub struct Batch {
    block: u16,
    zero: Vec<Run>,
    data: Vec<Run>,
    zero_pages: usize,
    bytes: Vec<u8>,
    /// Number of the page after the last one taken.
    next: u64,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.zero.is_empty() && self.data.is_empty()
    }

    /// The block; of no meaning while empty.
    pub fn block(&self) -> u16 {
        self.block
    }

    /// Zero pages.
    pub fn zero(&self) -> &[Run] {
        &self.zero
    }

    /// Pages with contents.
    pub fn data(&self) -> &[Run] {
        &self.data
    }

    /// The contents of [`Self::data`], in its order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of pages, of both kinds.
    pub fn pages(&self) -> usize {
        self.zero_pages + self.bytes.len() / PAGE_SIZE
    }

    /// A question about its pages with contents: a head that only names them.
    pub fn question(&self) -> Head {
        let zero = self.data.clone();
        Head { block: self.block, kind: Kind::Raw, zero, data: Vec::new(), body: 0 }
    }

    /// Empties it; memory is kept.
    pub fn clear(&mut self) {
        self.zero.clear();
        self.data.clear();
        self.bytes.clear();
        self.zero_pages = 0;
        self.next = 0;
    }

    /// Offers the zero page with this number.
    pub fn push_zero(&mut self, block: u16, page: u64) -> Pushed {
        let room = self.zero_pages < MAX_ZERO_PAGES && self.accepts(block, page);
        if !room || !extend(&mut self.zero, page) {
            return Pushed::Full;
        }
        self.zero_pages += 1;
        self.taken(block, page)
    }

    /// Offers the page with this number; one that holds only zeroes becomes a
    /// zero page.
    pub fn push(&mut self, block: u16, page: u64, content: &[u8; PAGE_SIZE]) -> Pushed {
        if is_zero(content) {
            return self.push_zero(block, page);
        }
        let room = self.bytes.len() < MAX_PAGES * PAGE_SIZE && self.accepts(block, page);
        if !room || !extend(&mut self.data, page) {
            return Pushed::Full;
        }
        self.bytes.extend_from_slice(content);
        self.taken(block, page)
    }

    fn accepts(&self, block: u16, page: u64) -> bool {
        self.is_empty() || (block == self.block && page >= self.next)
    }

    fn taken(&mut self, block: u16, page: u64) -> Pushed {
        self.block = block;
        self.next = page.saturating_add(1);
        Pushed::Taken
    }
}

/// Adds a page to the last run or as a new one, if there is room for one.
fn extend(runs: &mut Vec<Run>, page: u64) -> bool {
    let full = runs.len() == MAX_RUNS;
    match runs.last_mut() {
        Some(last) if last.end() == page => last.pages += 1,
        _ if full => return false,
        _ => runs.push(Run { first: page, pages: 1 }),
    }
    true
}
