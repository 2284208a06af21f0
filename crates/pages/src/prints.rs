//! Fingerprints of a page's parts: which parts of it are not what the other side holds.
//!
//! XXH3 of 64 bits, seeded for the attempt with a number that no guest knows. They find
//! what has changed; that the page put together from it is right is checked by another
//! hash of all of it ([`Printer::check`]), before anything is written.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::PAGE_SIZE;

/// Bytes of a part.
pub const PART: usize = 128;
/// Parts of a page.
pub const PARTS: usize = PAGE_SIZE / PART;
/// Bytes of a page's fingerprints as they travel.
pub const PRINTS: usize = PARTS * 8;

/// Makes fingerprints that agree with those of the same key only.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    parts: u64,
    whole: u64,
}

impl Printer {
    /// A printer of an attempt's key.
    pub fn new(key: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = key;
        Self {
            parts: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            whole: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// Fingerprints of a page's parts.
    pub fn prints(&self, page: &[u8; PAGE_SIZE]) -> Prints {
        let (parts, _) = page.as_chunks::<PART>();
        let mut prints = Prints([0; PARTS]);
        for (print, part) in prints.0.iter_mut().zip(parts) {
            *print = xxh3_64_with_seed(part, self.parts);
        }
        prints
    }

    /// The hash of a whole page, by which the other side sees that it is right.
    pub fn check(&self, page: &[u8; PAGE_SIZE]) -> u64 {
        xxh3_64_with_seed(page, self.whole)
    }

    /// The hash by which pages of the same content are found.
    pub fn content(&self, page: &[u8; PAGE_SIZE]) -> u64 {
        xxh3_64_with_seed(page, !self.whole)
    }

    /// Fingerprints of a page of zeros.
    pub fn of_zeros(&self) -> Prints {
        self.prints(&[0; PAGE_SIZE])
    }
}

/// The fingerprints of a page's parts, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prints([u64; PARTS]);

impl Prints {
    /// One bit for each part that is not the same, the first part's lowest.
    pub fn differing(&self, other: &Self) -> u32 {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        pairs.fold(0, |mask, (at, (a, b))| mask | u32::from(a != b) << at)
    }

    /// Appends them as they travel, little-endian.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|print| out.extend_from_slice(&print.to_le_bytes()));
    }

    /// Reads them.
    pub fn read(bytes: &[u8; PRINTS]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let mut prints = Self([0; PARTS]);
        for (print, word) in prints.0.iter_mut().zip(words) {
            *print = u64::from_le_bytes(*word);
        }
        prints
    }
}
