//! What the destination holds already: the index of a retained image.
//!
//! The destination hashes the pages of its image as they are, and the source compares
//! them with what it would send. Nothing that was written down about the image is
//! relied upon: whatever happened to it, a page is taken for present only if it is.

use std::collections::BTreeMap;

use crate::{PageError, Place, is_zero};

/// Bytes of a page's hash: BLAKE3, keyed, its first 128 bits.
pub const HASH: usize = 16;
/// The hash of a page of zeros.
pub const ZEROS: [u8; HASH] = [0; HASH];
/// What is at the destination is no longer what was indexed.
const GONE: [u8; HASH] = [0xff; HASH];
/// Most pages of an index: 256 GiB of memory, 1 GiB of hashes.
pub const MAX_INDEXED: u64 = 1 << 26;

/// Hashes pages.
#[derive(Debug, Clone, Copy)]
pub struct PageHasher {
    key: [u8; 32],
}

impl PageHasher {
    /// One whose hashes agree with those of the same key only.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The hash of a page.
    pub fn hash(&self, page: &[u8]) -> [u8; HASH] {
        if is_zero(page) {
            return ZEROS;
        }
        let hash = blake3::keyed_hash(&self.key, page);
        let mut out = ZEROS;
        out.copy_from_slice(&hash.as_bytes()[..HASH]);
        out
    }
}

/// The hashes of a row of pages of one block, as they travel:
/// `u8` length of the name, name, `u64` first page (big-endian), hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPart<'a> {
    /// The block's name.
    pub block: &'a str,
    /// Number of the first page.
    pub first: u64,
    /// [`HASH`] bytes for each page.
    pub hashes: &'a [u8],
}

impl<'a> IndexPart<'a> {
    /// Appends what comes before the hashes.
    pub fn write_head(block: &str, first: u64, out: &mut Vec<u8>) {
        let name = &block.as_bytes()[..block.len().min(255)];
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.extend_from_slice(&first.to_be_bytes());
    }

    /// Reads one.
    ///
    /// # Errors
    /// It ends too early or breaks a bound.
    pub fn read(input: &'a [u8]) -> Result<Self, PageError> {
        const BAD: PageError = PageError::Head("a malformed part of an index");
        let (length, rest) = input.split_first().ok_or(BAD)?;
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(BAD)?;
        let (first, hashes) = rest.split_first_chunk().ok_or(BAD)?;
        let block = std::str::from_utf8(name).map_err(|_| BAD)?;
        let first = u64::from_be_bytes(*first);
        if !hashes.len().is_multiple_of(HASH) || first > MAX_INDEXED {
            return Err(BAD);
        }
        Ok(Self { block, first, hashes })
    }
}

/// What the destination has, as far as it has said so and nothing else was sent since.
#[derive(Debug, Clone, Default)]
pub struct Index {
    blocks: BTreeMap<String, Vec<[u8; HASH]>>,
    pages: u64,
    /// The blocks in the order of the stream.
    bound: Vec<Vec<[u8; HASH]>>,
}

impl Index {
    /// Adds a part, which must follow those of its block before it.
    ///
    /// # Errors
    /// It does not, or there are more than [`MAX_INDEXED`] pages.
    pub fn add(&mut self, part: IndexPart<'_>) -> Result<(), PageError> {
        let (hashes, _) = part.hashes.as_chunks::<HASH>();
        self.pages += hashes.len() as u64;
        let block = self.blocks.entry(part.block.to_owned()).or_default();
        if block.len() as u64 != part.first || self.pages > MAX_INDEXED {
            return Err(PageError::Head("an index with a gap, or too long"));
        }
        block.extend_from_slice(hashes);
        Ok(())
    }

    /// Gives each block its number in the stream.
    pub fn bind<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.bound = names.map(|name| self.blocks.remove(name).unwrap_or_default()).collect();
        self.blocks.clear();
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The hash of what the destination has of this page, if it has said so and nothing was
    /// sent since.
    pub fn told(&self, (block, page): Place) -> Option<[u8; HASH]> {
        let known = self.bound.get(usize::from(block))?.get(page as usize)?;
        (*known != GONE).then_some(*known)
    }

    /// The page is sent: the index no longer tells what is there.
    pub fn gone(&mut self, (block, page): Place) {
        let pages = self.bound.get_mut(usize::from(block));
        if let Some(known) = pages.and_then(|pages| pages.get_mut(page as usize)) {
            *known = GONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE_SIZE;

    fn part(block: &str, first: u64, pages: &[[u8; PAGE_SIZE]]) -> Vec<u8> {
        let hasher = PageHasher::new([7; 32]);
        let mut out = Vec::new();
        IndexPart::write_head(block, first, &mut out);
        pages.iter().for_each(|page| out.extend(hasher.hash(page)));
        out
    }

    #[test]
    fn a_page_is_present_until_another_was_sent() {
        let hasher = PageHasher::new([7; 32]);
        let page = |fill| [fill; PAGE_SIZE];
        let has = |index: &Index, page, content: &[u8]| {
            index.told((1, page)) == Some(hasher.hash(content))
        };
        let mut index = Index::default();
        let bytes = part("ram", 0, &[page(1), page(0), page(3)]);
        index.add(IndexPart::read(&bytes).unwrap()).unwrap();
        index.bind(["rom", "ram"].into_iter());
        assert!(has(&index, 0, &page(1)) && has(&index, 1, &page(0)));
        assert_eq!(index.told((1, 1)), Some(ZEROS));
        assert!(!has(&index, 2, &page(4)));
        index.gone((1, 2));
        assert!(!has(&index, 2, &page(3)), "what was sent lies there now");
        assert_eq!((index.told((1, 3)), index.told((0, 0))), (None, None));
        let stranger = PageHasher::new([8; 32]);
        let other = Some(stranger.hash(&page(1)));
        assert_ne!(index.told((1, 0)), other, "a hash of another attempt says nothing");
    }

    #[test]
    fn parts_with_gaps_or_without_end_are_refused() {
        let one = part("ram", 0, &[[1; PAGE_SIZE]]);
        let later = part("ram", 2, &[[1; PAGE_SIZE]]);
        let mut index = Index::default();
        index.add(IndexPart::read(&one).unwrap()).unwrap();
        assert!(index.add(IndexPart::read(&later).unwrap()).is_err());
        for cut in 0..one.len() - HASH {
            assert!(IndexPart::read(&one[..cut]).is_err(), "{cut}");
        }
        assert!(IndexPart::read(&one[..one.len() - 1]).is_err());
        let mut far = one;
        far[4] = 1;
        assert!(IndexPart::read(&far).is_err());
    }
}
