//! Pages that are told by what the other side holds already: as copies of other pages,
//! or by the parts that changed.
//!
//! Both are batches whose body has a row for each page, raw or as one zstd frame:
//!
//! ```text
//! u8 0 raw, 1 zstd | rows
//! a copy:    u64 number of the page that has the content | u64 check
//! a change:  u32 mask of parts | u64 check | the parts, in order      all little-endian
//! ```
//!
//! The check is the hash of the page as it is to be ([`crate::Printer::check`]): what does
//! not have it is not written.

use crate::{Head, Kind, MAX_BODY, MAX_PAGES, MAX_RUNS, PAGE_SIZE, PART, PageError, Pushed, Run};

/// Bytes of a change's row before its parts.
const CHANGE: usize = 12;
/// Bytes of a copy's row.
const COPY: usize = 16;
/// More parts than this are not worth a change: the page travels whole.
pub const MOST_PARTS: u32 = 16;

/// Rows of one kind and block, of pages in rising order.
#[derive(Debug)]
pub struct Rows {
    kind: Kind,
    block: u16,
    runs: Vec<Run>,
    pages: usize,
    bytes: Vec<u8>,
    next: u64,
}

impl Rows {
    /// No changes yet.
    pub fn changes() -> Self {
        Self::new(Kind::Changes)
    }

    /// No copies yet.
    pub fn copies() -> Self {
        Self::new(Kind::Copies)
    }

    fn new(kind: Kind) -> Self {
        Self { kind, block: 0, runs: Vec::new(), pages: 0, bytes: Vec::new(), next: 0 }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Empties it; memory is kept.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes.clear();
        self.pages = 0;
        self.next = 0;
    }

    /// The parts of `page` that `mask` names, and the check of all of it.
    pub fn change(
        &mut self,
        block: u16,
        number: u64,
        page: &[u8; PAGE_SIZE],
        (mask, check): (u32, u64),
    ) -> Pushed {
        let parts = mask.count_ones() as usize * PART;
        if !self.takes(block, number, CHANGE + parts) {
            return Pushed::Full;
        }
        self.bytes.extend_from_slice(&mask.to_le_bytes());
        self.bytes.extend_from_slice(&check.to_le_bytes());
        let (all, _) = page.as_chunks::<PART>();
        for (at, part) in all.iter().enumerate() {
            if mask & (1 << at) != 0 {
                self.bytes.extend_from_slice(part);
            }
        }
        Pushed::Taken
    }

    /// The page has the content of page `of` of its block.
    pub fn copy(&mut self, block: u16, number: u64, of: u64, check: u64) -> Pushed {
        if !self.takes(block, number, COPY) {
            return Pushed::Full;
        }
        self.bytes.extend_from_slice(&of.to_le_bytes());
        self.bytes.extend_from_slice(&check.to_le_bytes());
        Pushed::Taken
    }

    fn takes(&mut self, block: u16, number: u64, bytes: usize) -> bool {
        let fits = self.pages < MAX_PAGES && 1 + self.bytes.len() + bytes <= MAX_BODY;
        let rises = self.is_empty() || (block == self.block && number >= self.next);
        if !fits || !rises {
            return false;
        }
        let full = self.runs.len() == MAX_RUNS;
        match self.runs.last_mut() {
            Some(last) if last.end() == number => last.pages += 1,
            _ if full => return false,
            _ => self.runs.push(Run { first: number, pages: 1 }),
        }
        self.pages += 1;
        self.block = block;
        self.next = number.saturating_add(1);
        true
    }

    /// The head of the batch, for a body of `body` bytes.
    pub(crate) fn head(&self, body: usize) -> Head {
        Head {
            block: self.block,
            kind: self.kind,
            zero: Vec::new(),
            data: self.runs.clone(),
            body: body as u32,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What became of a page, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// It has the content of this page of its block.
    Copy {
        /// Number of that page.
        of: u64,
        /// Hash of the content.
        check: u64,
    },
    /// Parts of it have changed.
    Change {
        /// One bit for each part that has.
        mask: u32,
        /// Hash of the page as it is to be.
        check: u64,
        /// The parts, one after the other.
        parts: &'a [u8],
    },
}

impl Told<'_> {
    /// Makes the page out of what was there: `page` holds the page itself, or the one that
    /// it is a copy of.
    pub fn apply(&self, page: &mut [u8; PAGE_SIZE]) {
        let Self::Change { mask, parts, .. } = *self else { return };
        let (new, _) = parts.as_chunks::<PART>();
        let mut new = new.iter();
        for (at, old) in page.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
            if mask & (1 << at) != 0
                && let Some(part) = new.next()
            {
                *old = *part;
            }
        }
    }

    /// Hash of the page as it is to be.
    pub fn check(&self) -> u64 {
        match *self {
            Self::Copy { check, .. } | Self::Change { check, .. } => check,
        }
    }
}

/// Gives each page of a batch of rows with what its row says.
///
/// # Errors
/// The rows are not exactly those of the head's pages.
pub fn read_rows(
    head: &Head,
    mut rows: &[u8],
    mut give: impl FnMut(u64, Told<'_>) -> Result<(), PageError>,
) -> Result<(), PageError> {
    const BAD: PageError = PageError::Head("rows that are not those of its pages");
    for number in head.data.iter().flat_map(|run| run.first..run.end()) {
        let (told, rest) = match head.kind {
            Kind::Copies => copy(rows),
            Kind::Changes => change(rows),
            Kind::Raw | Kind::Zstd => None,
        }
        .ok_or(BAD)?;
        give(number, told)?;
        rows = rest;
    }
    if rows.is_empty() { Ok(()) } else { Err(BAD) }
}

fn copy(rows: &[u8]) -> Option<(Told<'_>, &[u8])> {
    let (of, rest) = rows.split_first_chunk()?;
    let (check, rest) = rest.split_first_chunk()?;
    let (of, check) = (u64::from_le_bytes(*of), u64::from_le_bytes(*check));
    Some((Told::Copy { of, check }, rest))
}

fn change(rows: &[u8]) -> Option<(Told<'_>, &[u8])> {
    let (mask, rest) = rows.split_first_chunk()?;
    let (check, rest) = rest.split_first_chunk()?;
    let (mask, check) = (u32::from_le_bytes(*mask), u64::from_le_bytes(*check));
    let (parts, rest) = rest.split_at_checked(mask.count_ones() as usize * PART)?;
    Some((Told::Change { mask, check, parts }, rest))
}
