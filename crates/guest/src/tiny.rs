//! What the tiny guest leaves in its memory: a pattern over everything from
//! 1 MiB on, a window of it that is written again and again, and a head that
//! says how far it is.
//!
//! A word at physical address `a` of generation `g` is `mix(a, g)`; on odd pages
//! only the low half of every byte is kept, so that they can be compressed.
//! Everything is of generation 1; the window's pages are written again in turn.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::words::{fill_words, mix, words};

/// Physical address of the head.
pub const HEAD: u64 = 0x10000;
/// Physical address of the first page with the pattern.
pub const FIRST: u32 = 1 << 20;

const MAGIC: [u32; 2] = [u32::from_le_bytes(*b"GWTI"), u32::from_le_bytes(*b"NY01")];
const PAGE: u32 = 4096;

/// The head, as the guest keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// End of the pattern, a physical address.
    pub end: u32,
    /// Pages of the window, which begins at [`FIRST`].
    pub window: u32,
    /// Pages of the window that were written again, since the start.
    pub rewritten: u32,
    /// Heartbeats since the start.
    pub beats: u32,
    /// Mismatches that the guest itself found.
    pub bad: u32,
    /// Counter of the last block that the disk acknowledged.
    pub disk: u32,
    /// Address of the page that is being written just now; 0: none.
    pub writing: u32,
}

/// Why a memory is not what the tiny guest left.
#[derive(Debug)]
pub enum TinyError {
    /// The memory cannot be read.
    Read(io::Error),
    /// There is no head, or one that cannot be.
    NoHead,
    /// The guest itself found mismatches.
    GuestFound(u32),
    /// A page differs.
    Page {
        /// Its physical address.
        address: u32,
        /// The generation it should have.
        generation: u32,
    },
}

impl fmt::Display for TinyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(e) => write!(f, "the memory cannot be read: {e}"),
            Self::NoHead => write!(f, "the tiny guest's head is not at {HEAD:#x}"),
            Self::GuestFound(n) => write!(f, "the guest found {n} mismatches itself"),
            Self::Page { address, generation } => {
                write!(f, "the page at {address:#x} is not of generation {generation}")
            }
        }
    }
}

impl std::error::Error for TinyError {}

/// Reads the head out of a memory; also while the guest runs.
///
/// # Errors
/// [`TinyError::Read`], [`TinyError::NoHead`].
pub fn head(memory: &mut (impl Read + Seek)) -> Result<Head, TinyError> {
    let mut bytes = [0; 36];
    memory.seek(SeekFrom::Start(HEAD)).map_err(TinyError::Read)?;
    memory.read_exact(&mut bytes).map_err(TinyError::Read)?;
    let mut all = [0; 9];
    for (place, word) in all.iter_mut().zip(words(&bytes)) {
        *place = word;
    }
    let [m0, m1, end, window, rewritten, beats, bad, disk, writing] = all;
    let sound = [m0, m1] == MAGIC
        && end.is_multiple_of(PAGE)
        && window > 0
        && end.checked_sub(FIRST).is_some_and(|size| size / PAGE >= window);
    if !sound {
        return Err(TinyError::NoHead);
    }
    Ok(Head { end, window, rewritten, beats, bad, disk, writing })
}

/// Checks the whole pattern in a memory whose guest stands still (guest address
/// = offset in the file). The page that was being written is left out.
///
/// # Errors
/// [`TinyError`]: the first thing that is wrong.
pub fn check(memory: &mut (impl Read + Seek)) -> Result<Head, TinyError> {
    let head = head(memory)?;
    if head.bad > 0 {
        return Err(TinyError::GuestFound(head.bad));
    }
    memory.seek(SeekFrom::Start(u64::from(FIRST))).map_err(TinyError::Read)?;
    let mut found = [0; PAGE as usize];
    let mut right = [0; PAGE as usize];
    for address in (FIRST..head.end).step_by(PAGE as usize) {
        memory.read_exact(&mut found).map_err(TinyError::Read)?;
        let generation = head.generation(address);
        page(address, generation, &mut right);
        if found != right && address != head.writing {
            return Err(TinyError::Page { address, generation });
        }
    }
    Ok(head)
}

impl Head {
    /// The generation that the page at an address has.
    fn generation(&self, address: u32) -> u32 {
        let index = (address - FIRST) / PAGE;
        if index >= self.window {
            return 1;
        }
        let (rounds, rest) = (self.rewritten / self.window, self.rewritten % self.window);
        1 + rounds + u32::from(index < rest)
    }
}

/// The page at an address.
fn page(address: u32, generation: u32, page: &mut [u8]) {
    let mask = if address & PAGE == 0 { u32::MAX } else { 0x0f0f_0f0f };
    fill_words(page, |i| mix(address.wrapping_add(4 * i), generation) & mask);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn memory(head: Head) -> Vec<u8> {
        let mut memory = vec![0; head.end as usize];
        let h = [
            MAGIC[0],
            MAGIC[1],
            head.end,
            head.window,
            head.rewritten,
            head.beats,
            head.bad,
            head.disk,
            head.writing,
        ];
        fill_words(&mut memory[HEAD as usize..HEAD as usize + 36], |i| h[i as usize]);
        for address in (FIRST..head.end).step_by(PAGE as usize) {
            let at = address as usize;
            page(address, head.generation(address), &mut memory[at..at + PAGE as usize]);
        }
        memory
    }

    const SOME: Head = Head {
        end: FIRST + 9 * PAGE,
        window: 4,
        rewritten: 6,
        beats: 1,
        bad: 0,
        disk: 0,
        writing: 0,
    };

    #[test]
    fn the_pattern_is_checked_word_for_word() {
        let good = memory(SOME);
        assert_eq!(check(&mut Cursor::new(&good)).unwrap(), SOME);
        let generations: Vec<_> = (0..6).map(|i| SOME.generation(FIRST + i * PAGE)).collect();
        assert_eq!(generations, [3, 3, 2, 2, 1, 1]);
        for at in (FIRST as usize..good.len()).step_by(997) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let error = check(&mut Cursor::new(&bad)).unwrap_err();
            assert!(matches!(error, TinyError::Page { .. }), "{error}");
        }
    }

    #[test]
    fn only_the_page_under_way_may_differ() {
        let head = Head { writing: FIRST + 2 * PAGE, ..SOME };
        let mut torn = memory(head);
        torn[(FIRST + 2 * PAGE) as usize..][..64].fill(7);
        assert!(check(&mut Cursor::new(&torn)).is_ok());
        torn[(FIRST + 3 * PAGE) as usize] ^= 1;
        assert!(check(&mut Cursor::new(&torn)).is_err());
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        for head in [
            Head { window: 0, ..SOME },
            Head { window: 10, ..SOME },
            Head { end: FIRST - PAGE, ..SOME },
            Head { end: FIRST + 1, ..SOME },
        ] {
            let mut bytes = memory(SOME);
            let at = HEAD as usize;
            bytes[at + 8..at + 12].copy_from_slice(&head.end.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&head.window.to_le_bytes());
            assert!(matches!(check(&mut Cursor::new(&bytes)), Err(TinyError::NoHead)), "{head:?}");
        }
        assert!(matches!(check(&mut Cursor::new(&[0; 10])), Err(TinyError::Read(_))));
        let found = memory(Head { bad: 2, ..SOME });
        assert!(matches!(check(&mut Cursor::new(&found)), Err(TinyError::GuestFound(2))));
    }
}
