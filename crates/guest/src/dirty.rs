//! Pages that are written again and again, in turn, and always show whether
//! they are whole and how old they are.
//!
//! Words of a page: index, generation, words that follow from both (the changing
//! part, at the front) or from the index alone, and the hash of the first two and
//! the changing part. Writing a page again writes only what changes.

use crate::words::{fill_words, hash, mix, words};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A working set whose pages are written one after the other, round by round.
#[derive(Debug)]
pub struct WorkingSet {
    memory: Vec<u8>,
    /// Share of a page that changes when it is written again, in percent.
    percent: u32,
    /// Pages written since the start; the first round is part of it.
    written: u64,
}

impl WorkingSet {
    /// A set of `pages` pages (at least one), all written once.
    pub fn new(pages: usize, percent: u32) -> Self {
        let pages = pages.max(1);
        let mut set = Self { memory: vec![0; pages * PAGE], percent: percent.min(100), written: 0 };
        set.write(pages);
        set
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.memory.len() / PAGE
    }

    /// Pages written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the next `count` pages.
    pub fn write(&mut self, count: usize) {
        let pages = self.pages() as u64;
        for _ in 0..count {
            let (index, round) = ((self.written % pages) as usize, self.written / pages);
            if let Some(page) = self.memory.chunks_exact_mut(PAGE).nth(index) {
                if round == 0 {
                    fill(page, index as u32, self.percent);
                }
                write(page, index as u32, round as u32, self.percent);
            }
            self.written += 1;
        }
    }

    /// Checks every page against what was written there last.
    ///
    /// # Errors
    /// The first page that is wrong, and how.
    pub fn verify(&self) -> Result<(), String> {
        let pages = self.pages() as u64;
        let mut right = [0; PAGE];
        for (index, page) in (0u64..).zip(self.memory.chunks_exact(PAGE)) {
            let rounds = (self.written + pages - 1 - index) / pages;
            let round = rounds.saturating_sub(1) as u32;
            fill(&mut right, index as u32, self.percent);
            write(&mut right, index as u32, round, self.percent);
            if page != right {
                let mut found = words(page);
                let (i, g) = (found.next().unwrap_or(0), found.next().unwrap_or(0));
                let changing = changing(self.percent);
                let whole = sum(page, changing) == page[PAGE - 4..]
                    && page[changing..PAGE - 4] == right[changing..PAGE - 4];
                return Err(format!(
                    "dirty page {index} should have generation {round}, found page {i} of \
                     generation {g}, {}",
                    if whole { "whole" } else { "torn" }
                ));
            }
        }
        Ok(())
    }
}

/// Bytes at a page's front that change, of which index and generation are part.
fn changing(percent: u32) -> usize {
    (PAGE / 4 * percent as usize / 100).clamp(2, PAGE / 4 - 1) * 4
}

/// Writes the words that follow from the index alone.
fn fill(page: &mut [u8], index: u32, percent: u32) {
    let from = changing(percent);
    let first = index.wrapping_mul(PAGE as u32 / 4).wrapping_add(from as u32 / 4);
    fill_words(&mut page[from..PAGE - 4], |i| mix(first.wrapping_add(i), 0));
}

/// Writes the words that follow from index and generation.
fn write(page: &mut [u8], index: u32, generation: u32, percent: u32) {
    let changing = changing(percent);
    let base = index.wrapping_mul(PAGE as u32 / 4);
    fill_words(&mut page[..changing], |i| match i {
        0 => index,
        1 => generation,
        i => mix(base.wrapping_add(i), generation.wrapping_add(1)),
    });
    let sum = sum(page, changing);
    page[PAGE - 4..].copy_from_slice(&sum);
}

fn sum(page: &[u8], changing: usize) -> [u8; 4] {
    hash(words(&page[..changing])).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_verifies_at_any_moment() {
        let mut set = WorkingSet::new(5, 100);
        for step in 0..23 {
            assert_eq!(set.verify(), Ok(()), "{step}");
            set.write(1 + step % 3);
        }
        assert_eq!(set.pages(), 5);
        assert!(set.written() > 23);
    }

    #[test]
    fn stale_torn_and_swapped_pages_are_found() {
        let mut set = WorkingSet::new(4, 25);
        let old = set.memory.clone();
        set.write(6);
        for (spoil, word) in [
            (
                (|m: &mut Vec<u8>, old: &[u8]| m[..PAGE].copy_from_slice(&old[..PAGE]))
                    as fn(&mut _, &_),
                "whole",
            ),
            (|m, _| m[PAGE + 9] ^= 1, "torn"),
            (|m, _| m.copy_within(PAGE..2 * PAGE, 2 * PAGE), "found page 1"),
            (|m, _| m[3 * PAGE..].fill(0), "torn"),
        ] {
            let mut bad = WorkingSet { memory: set.memory.clone(), ..set };
            spoil(&mut bad.memory, &old);
            let problem = bad.verify().unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn the_changing_share_is_kept() {
        let mut set = WorkingSet::new(1, 25);
        let before = set.memory.clone();
        set.write(1);
        let changed = before
            .as_chunks::<4>()
            .0
            .iter()
            .zip(set.memory.as_chunks::<4>().0)
            .filter(|(a, b)| a != b)
            .count();
        // The share, the generation's word and the hash; a word may stay by chance.
        assert!((250..=258).contains(&changed), "{changed}");
    }
}
