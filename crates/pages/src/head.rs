//! The head of a batch: which pages it holds, and how.
//!
//! ```text
//! u16 block | u8 kind | u8 zero runs | u8 data runs | u32 bytes of the body
//! then per run u64: first page << 16 | (pages - 1)          all little-endian
//! ```

use crate::{MAX_BODY, MAX_PAGES, MAX_RUNS, MAX_ZERO_PAGES, PAGE_SIZE, PageError};

const FIXED: usize = 9;
/// Most bytes a head takes.
pub const MAX_HEAD: usize = FIXED + 2 * MAX_RUNS * 8;

/// Consecutive pages of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// Number of the first page in its block.
    pub first: u64,
    /// How many pages; at least 1.
    pub pages: u32,
}

impl Run {
    /// Number of the page after the last.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.pages))
    }

    /// Offset of the first page in bytes.
    pub fn offset(&self) -> u64 {
        self.first.saturating_mul(PAGE_SIZE as u64)
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * PAGE_SIZE as u64
    }
}

/// How the body holds the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// As they are.
    Raw,
    /// As one zstd frame.
    Zstd,
    /// Rows: of which other page each is a copy.
    Copies,
    /// Rows: which parts of each have changed.
    Changes,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Copies => 2,
            Self::Changes => 3,
        }
    }

    fn from_number(number: u8) -> Result<Self, PageError> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Copies),
            3 => Ok(Self::Changes),
            other => Err(PageError::Kind(other)),
        }
    }
}

/// What a batch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Index of the block in the stream's list.
    pub block: u16,
    /// How the body holds the pages.
    pub kind: Kind,
    /// Pages that are zero; rising, disjoint.
    pub zero: Vec<Run>,
    /// Pages in the body, in this order; rising, disjoint, no page of `zero`.
    pub data: Vec<Run>,
    /// Length of the body in bytes.
    pub body: u32,
}

impl Head {
    /// Zero pages.
    pub fn zero_pages(&self) -> usize {
        count(&self.zero)
    }

    /// Pages in the body.
    pub fn data_pages(&self) -> usize {
        count(&self.data)
    }

    /// Whether every page lies in a block of `length` bytes.
    pub fn fits(&self, length: u64) -> bool {
        let pages = length / PAGE_SIZE as u64;
        self.zero.iter().chain(&self.data).all(|run| run.end() <= pages)
    }

    /// Appends the head to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.block.to_le_bytes());
        out.push(self.kind.number());
        out.push(self.zero.len() as u8);
        out.push(self.data.len() as u8);
        out.extend_from_slice(&self.body.to_le_bytes());
        for run in self.zero.iter().chain(&self.data) {
            let word = run.first << 16 | u64::from(run.pages.saturating_sub(1));
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads a head off the front of `input`; gives it and the bytes after it.
    ///
    /// # Errors
    /// [`PageError`] when it ends too early, breaks a bound or overlaps itself.
    pub fn read(input: &[u8]) -> Result<(Self, &[u8]), PageError> {
        const SHORT: PageError = PageError::Head("ends too early");
        let (fixed, rest) = input.split_first_chunk::<FIXED>().ok_or(SHORT)?;
        let [b0, b1, kind, zero, data, n0, n1, n2, n3] = *fixed;
        let (zero, rest) = runs(rest, zero).ok_or(SHORT)?;
        let (data, rest) = runs(rest, data).ok_or(SHORT)?;
        let head = Self {
            block: u16::from_le_bytes([b0, b1]),
            kind: Kind::from_number(kind)?,
            zero,
            data,
            body: u32::from_le_bytes([n0, n1, n2, n3]),
        };
        head.check()?;
        Ok((head, rest))
    }

    fn check(&self) -> Result<(), PageError> {
        let bad = |what| Err(PageError::Head(what));
        if self.zero.len() > MAX_RUNS || self.data.len() > MAX_RUNS {
            return bad("too many runs");
        }
        if self.zero_pages() > MAX_ZERO_PAGES || self.data_pages() > MAX_PAGES {
            return bad("too many pages");
        }
        if self.zero.is_empty() && self.data.is_empty() {
            return bad("no pages");
        }
        if !disjoint(&self.zero, &self.data) {
            return bad("pages overlap or are out of order");
        }
        let raw = self.data_pages() * PAGE_SIZE;
        match self.kind {
            Kind::Raw if self.body as usize != raw => bad("body is not its pages"),
            Kind::Zstd if self.body == 0 || raw == 0 || self.body as usize > MAX_BODY => {
                bad("body is empty or too long")
            }
            Kind::Copies | Kind::Changes if raw == 0 || !self.zero.is_empty() => {
                bad("rows without pages, or with others")
            }
            Kind::Copies | Kind::Changes if self.body == 0 || self.body as usize > MAX_BODY => {
                bad("body is empty or too long")
            }
            _ => Ok(()),
        }
    }
}

fn count(runs: &[Run]) -> usize {
    runs.iter().fold(0, |sum: usize, run| sum.saturating_add(run.pages as usize))
}

fn runs(input: &[u8], count: u8) -> Option<(Vec<Run>, &[u8])> {
    let (bytes, rest) = input.split_at_checked(usize::from(count) * 8)?;
    let (words, _) = bytes.as_chunks::<8>();
    let run = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        Run { first: word >> 16, pages: (word & 0xffff) as u32 + 1 }
    };
    Some((words.iter().map(run).collect(), rest))
}

/// Both lists rise, and no page is in both.
fn disjoint(zero: &[Run], data: &[Run]) -> bool {
    let (mut zero, mut data) = (zero.iter().peekable(), data.iter().peekable());
    let mut next = 0;
    loop {
        let run = match (zero.peek(), data.peek()) {
            (None, None) => return true,
            (Some(z), Some(d)) if z.first < d.first => zero.next(),
            (Some(_), None) => zero.next(),
            (_, Some(_)) => data.next(),
        };
        match run {
            Some(run) if run.first >= next => next = run.end(),
            _ => return false,
        }
    }
}
