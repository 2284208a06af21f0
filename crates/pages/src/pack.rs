//! Turns a batch into a head and a body, and back.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use crate::{Batch, Choice, Head, Kind, MAX_PAGES, PAGE_SIZE, PageError, Rows};

/// Most bytes a body takes.
pub const MAX_BODY: usize = MAX_PAGES * PAGE_SIZE;

/// A batch is sent compressed when it shrinks to this part of itself or less.
const WORTH_NUMERATOR: usize = 9;
const WORTH_DENOMINATOR: usize = 10;
/// Pages compressed first, in a batch of at least four times as many: where
/// they do not shrink, the rest is not tried.
const SAMPLE_PAGES: usize = 4;

/// A batch ready to be sent.
#[derive(Debug)]
pub struct Packed<'a> {
    /// Goes first.
    pub head: Head,
    /// Goes after it; `head.body` bytes.
    pub body: &'a [u8],
}

/// Compresses batches where told to and where it saves at least a tenth.
/// Keeps its contexts and buffers (about 2 MiB); one per thread.
pub struct Packer {
    fast: Compressor<'static>,
    zstd: Compressor<'static>,
    strong: Compressor<'static>,
    sample: Vec<u8>,
    out: Vec<u8>,
}

impl Packer {
    /// A packer with fresh contexts.
    ///
    /// # Errors
    /// When zstd cannot allocate them.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fast: Compressor::new(-1)?,
            zstd: Compressor::new(1)?,
            strong: Compressor::new(3)?,
            sample: Vec::with_capacity(SAMPLE_PAGES * PAGE_SIZE),
            out: vec![0; MAX_BODY],
        })
    }

    /// Head and body of a batch that is not empty. Without a copy where raw.
    pub fn pack<'a>(&'a mut self, batch: &'a Batch, choice: Choice) -> Packed<'a> {
        let compressed = self.compress(batch.bytes(), choice);
        let (kind, body) = match compressed.and_then(|n| self.out.get(..n)) {
            Some(body) => (Kind::Zstd, body),
            None => (Kind::Raw, batch.bytes()),
        };
        let (zero, data) = (batch.zero().to_vec(), batch.data().to_vec());
        let head = Head { block: batch.block(), kind, zero, data, body: body.len() as u32 };
        Packed { head, body }
    }

    /// Head and body of rows that are not empty.
    pub fn pack_rows(&mut self, rows: &Rows, choice: Choice) -> Packed<'_> {
        let bytes = rows.bytes();
        let context = match choice {
            Choice::Raw => None,
            Choice::Fast => Some(&mut self.fast),
            Choice::Zstd => Some(&mut self.zstd),
            Choice::Strong => Some(&mut self.strong),
        };
        let room = self.out.get_mut(1..bytes.len());
        let packed = context.zip(room).and_then(|(c, room)| c.compress_to_buffer(bytes, room).ok());
        let length = 1 + packed.unwrap_or(bytes.len());
        if let Some((first, rest)) = self.out.split_first_mut() {
            *first = u8::from(packed.is_some());
            if packed.is_none()
                && let Some(rest) = rest.get_mut(..bytes.len())
            {
                rest.copy_from_slice(bytes);
            }
        }
        let body = self.out.get(..length).unwrap_or_default();
        Packed { head: rows.head(body.len()), body }
    }

    /// Bytes in `self.out`; `None` where raw is better.
    fn compress(&mut self, bytes: &[u8], choice: Choice) -> Option<usize> {
        let context = match choice {
            Choice::Raw => return None,
            Choice::Fast => &mut self.fast,
            Choice::Zstd => &mut self.zstd,
            Choice::Strong => &mut self.strong,
        };
        if take_sample(bytes, &mut self.sample) {
            attempt(context, &self.sample, &mut self.out)?;
        }
        attempt(context, bytes, &mut self.out)
    }
}

/// Collects a few pages, spread over the batch; whether that saves anything.
fn take_sample(bytes: &[u8], sample: &mut Vec<u8>) -> bool {
    let pages = bytes.len() / PAGE_SIZE;
    sample.clear();
    if pages >= 4 * SAMPLE_PAGES {
        let spread = bytes.chunks_exact(PAGE_SIZE).step_by(pages / SAMPLE_PAGES);
        spread.take(SAMPLE_PAGES).for_each(|page| sample.extend_from_slice(page));
    }
    !sample.is_empty()
}

/// Compresses into no more room than is worth while: what does not fit is
/// better sent raw.
fn attempt(context: &mut Compressor<'_>, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let room = out.get_mut(..worth(bytes.len()))?;
    context.compress_to_buffer(bytes, room).ok()
}

fn worth(bytes: usize) -> usize {
    bytes * WORTH_NUMERATOR / WORTH_DENOMINATOR
}

/// Reads bodies. Keeps its context; one per thread.
pub struct Unpacker {
    zstd: Decompressor<'static>,
    out: Vec<u8>,
}

impl Unpacker {
    /// An unpacker with a fresh context.
    ///
    /// # Errors
    /// When zstd cannot allocate it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()?, out: vec![0; MAX_BODY] })
    }

    /// The contents of `head.data`, exactly its pages, in its order. Raw ones
    /// are `body` itself.
    ///
    /// # Errors
    /// [`PageError`] when the body does not hold exactly these pages.
    pub fn unpack<'a>(&'a mut self, head: &Head, body: &'a [u8]) -> Result<&'a [u8], PageError> {
        let (expected, found) = (head.body as usize, body.len());
        if expected != found {
            return Err(PageError::BodySize { expected, found });
        }
        let pages = head.data_pages();
        match head.kind {
            Kind::Raw if found == pages * PAGE_SIZE => Ok(body),
            Kind::Raw => Err(PageError::BodySize { expected: pages * PAGE_SIZE, found }),
            Kind::Zstd => self.decompress(pages, body),
            Kind::Copies | Kind::Changes => {
                Err(PageError::Head("rows where contents were expected"))
            }
        }
    }

    /// The rows of a batch of copies or changes, for [`crate::read_rows`].
    ///
    /// # Errors
    /// [`PageError`] when the body is not as long as the head says, or holds no rows.
    pub fn unpack_rows<'a>(
        &'a mut self,
        head: &Head,
        body: &'a [u8],
    ) -> Result<&'a [u8], PageError> {
        let (expected, found) = (head.body as usize, body.len());
        if expected != found {
            return Err(PageError::BodySize { expected, found });
        }
        let pages = head.data_pages();
        match body.split_first() {
            Some((0, rows)) => Ok(rows),
            Some((1, packed)) => {
                let bad =
                    |why: std::io::Error| PageError::Decompress { pages, why: why.to_string() };
                let n = self.zstd.decompress_to_buffer(packed, &mut self.out[..]).map_err(bad)?;
                Ok(self.out.get(..n).unwrap_or_default())
            }
            _ => Err(PageError::Head("rows packed in an unknown way")),
        }
    }

    fn decompress(&mut self, pages: usize, body: &[u8]) -> Result<&[u8], PageError> {
        let bad = |why: &str| PageError::Decompress { pages, why: why.to_owned() };
        let out = pages.checked_mul(PAGE_SIZE).and_then(|n| self.out.get_mut(..n));
        let out = out.ok_or_else(|| bad("too many"))?;
        match self.zstd.decompress_to_buffer(body, out) {
            Ok(n) if n == out.len() => Ok(out),
            Ok(_) => Err(bad("too short")),
            Err(error) => Err(bad(&error.to_string())),
        }
    }
}
