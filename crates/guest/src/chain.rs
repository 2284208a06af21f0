//! Blocks on a disk, each with the hash of the one before: shows from outside
//! whether every acknowledged write is there, in order and whole.
//!
//! Words of a block: magic, counter (from 1), hash of the block before (0 for
//! the first), 0, filler that follows from the counter, and as the last word
//! the hash of all others. Block `n` stands in slot `n % slots` of a ring.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::words::{fill_words, hash, mix, words};

const MAGIC: u32 = u32::from_le_bytes(*b"GWCH");
/// Words before the filler.
const HEAD: usize = 4;

/// Where on a disk a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// First byte of slot 0.
    pub offset: u64,
    /// Bytes of a block, a multiple of 512.
    pub block: usize,
    /// Number of slots.
    pub slots: u32,
}

impl Ring {
    /// The tiny guest's: 1,024 sectors from 1 MiB on.
    pub const TINY: Self = Self { offset: 1 << 20, block: 512, slots: 1024 };

    /// The Linux guest's on a disk of `size` bytes: blocks of 4 KiB from 64 KiB
    /// on, at most 64 MiB of them. `None`: the disk is too small for two blocks.
    pub fn linux(size: u64) -> Option<Self> {
        let (offset, block) = (64 << 10, 4096);
        let slots = (size.checked_sub(offset)? / block).min((64 << 20) / block);
        (slots >= 2).then_some(Self { offset, block: block as usize, slots: slots as u32 })
    }

    /// Position of block `counter` on the disk, in bytes.
    pub fn place(&self, counter: u32) -> u64 {
        self.offset + u64::from(counter % self.slots) * self.block as u64
    }
}

/// A chain's newest block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Its counter; 0 when there is none yet.
    pub counter: u32,
    /// Its hash; 0 when there is none yet.
    pub hash: u32,
}

impl Head {
    /// Writes the block after this one into `block` (as long as the ring says)
    /// and returns the new head.
    pub fn next(self, block: &mut [u8]) -> Self {
        let counter = self.counter.wrapping_add(1);
        fill_words(block, |i| match i {
            0 => MAGIC,
            1 => counter,
            2 => self.hash,
            3 => 0,
            i => mix(i, counter),
        });
        let rest = block.len() - 4;
        let hash = hash(words(&block[..rest]));
        block[rest..].copy_from_slice(&hash.to_le_bytes());
        Self { counter, hash }
    }
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Never written.
    Empty,
    /// A whole block.
    Block { head: Head, previous: u32 },
    /// Something that began as a block and is not whole.
    Torn,
}

fn slot(block: &[u8]) -> Slot {
    let mut first = [0; HEAD];
    for (place, word) in first.iter_mut().zip(words(block)) {
        *place = word;
    }
    let [magic, counter, previous, _] = first;
    if magic != MAGIC {
        return if block.iter().all(|b| *b == 0) { Slot::Empty } else { Slot::Torn };
    }
    // The block that must stand here, made again.
    let mut right = vec![0; block.len()];
    let before = Head { counter: counter.wrapping_sub(1), hash: previous };
    let head = before.next(&mut right);
    if right == block { Slot::Block { head, previous } } else { Slot::Torn }
}

/// What is wrong with a chain.
#[derive(Debug)]
pub enum ChainError {
    /// The disk cannot be read.
    Read(io::Error),
    /// A slot holds something broken.
    Torn {
        /// The slot.
        slot: u32,
    },
    /// A block stands in the wrong slot, is too old, or is missing.
    Wrong {
        /// Counter of the block that should stand there.
        counter: u32,
        /// What stands there instead.
        found: String,
    },
    /// A block does not follow the one before it.
    Broken {
        /// The block's counter.
        counter: u32,
    },
    /// An acknowledged block is not there.
    Lost {
        /// The newest block that was acknowledged.
        acknowledged: u32,
        /// The newest block on the disk.
        newest: u32,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(e) => write!(f, "the disk cannot be read: {e}"),
            Self::Torn { slot } => write!(f, "slot {slot} holds a broken block"),
            Self::Wrong { counter, found } => {
                write!(f, "block {counter} should stand where {found} is")
            }
            Self::Broken { counter } => {
                write!(f, "block {counter} does not follow block {}", counter.wrapping_sub(1))
            }
            Self::Lost { acknowledged, newest } => {
                write!(f, "block {acknowledged} was acknowledged, but the last one is {newest}")
            }
        }
    }
}

impl std::error::Error for ChainError {}

/// Reads the newest block; the start of a program that goes on with a chain.
/// Broken blocks are passed over: the one that was being written when the power
/// went may be such a one.
///
/// # Errors
/// The disk cannot be read.
pub fn newest(disk: &mut (impl Read + Seek), ring: &Ring) -> io::Result<Head> {
    let slots = read(disk, ring)?;
    Ok(newest_of(&slots))
}

fn newest_of(slots: &[Slot]) -> Head {
    let heads = slots.iter().filter_map(|s| match s {
        Slot::Block { head, .. } => Some(*head),
        Slot::Empty | Slot::Torn => None,
    });
    heads.max_by_key(|h| h.counter).unwrap_or_default()
}

fn read(disk: &mut (impl Read + Seek), ring: &Ring) -> io::Result<Vec<Slot>> {
    disk.seek(SeekFrom::Start(ring.offset))?;
    let mut block = vec![0; ring.block];
    let mut slots = Vec::new();
    for _ in 0..ring.slots {
        disk.read_exact(&mut block)?;
        slots.push(slot(&block));
    }
    Ok(slots)
}

/// Checks a whole chain: every block is whole, stands in its slot and follows
/// the one before, and the block `acknowledged` (0: none) or a newer one is
/// there. One broken block is accepted: the one after the newest, which was
/// being written. Returns the newest.
///
/// # Errors
/// [`ChainError`]: the first thing that is wrong.
pub fn check(
    disk: &mut (impl Read + Seek),
    ring: &Ring,
    acknowledged: u32,
) -> Result<Head, ChainError> {
    let slots = read(disk, ring).map_err(ChainError::Read)?;
    let newest = newest_of(&slots);
    if newest.counter < acknowledged {
        return Err(ChainError::Lost { acknowledged, newest: newest.counter });
    }
    let under_way = newest.counter.wrapping_add(1) % ring.slots;
    let (mut expected, mut left) = (newest, ring.slots);
    while expected.counter > 0 && left > 0 {
        let number = expected.counter % ring.slots;
        let found = slots.get(number as usize).copied().unwrap_or(Slot::Empty);
        let previous = match found {
            Slot::Block { head, previous } if head.counter == expected.counter => {
                if head.hash != expected.hash {
                    return Err(ChainError::Broken { counter: expected.counter.wrapping_add(1) });
                }
                previous
            }
            Slot::Torn if number == under_way => break,
            Slot::Torn => return Err(ChainError::Torn { slot: number }),
            Slot::Empty => return Err(wrong(expected, "nothing".into())),
            Slot::Block { head, .. } => {
                return Err(wrong(expected, format!("block {}", head.counter)));
            }
        };
        expected = Head { counter: expected.counter - 1, hash: previous };
        left -= 1;
    }
    if expected.counter == 0 && expected.hash != 0 {
        return Err(ChainError::Broken { counter: 1 });
    }
    // Slots that no block of the chain uses.
    for (number, slot) in (0..).zip(&slots) {
        let age = (newest.counter % ring.slots + ring.slots - number) % ring.slots;
        let used = age < newest.counter;
        match slot {
            Slot::Torn if number != under_way => return Err(ChainError::Torn { slot: number }),
            Slot::Block { head, .. } if !used => {
                let counter = if number == 0 { ring.slots } else { number };
                return Err(wrong(Head { counter, hash: 0 }, format!("block {}", head.counter)));
            }
            _ => {}
        }
    }
    Ok(newest)
}

fn wrong(expected: Head, found: String) -> ChainError {
    ChainError::Wrong { counter: expected.counter, found }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const RING: Ring = Ring { offset: 1024, block: 512, slots: 8 };

    fn disk(blocks: u32) -> (Vec<u8>, Head) {
        let mut disk = vec![0; 1024 + 8 * 512];
        let mut head = Head::default();
        for counter in 1..=blocks {
            let at = RING.place(counter) as usize;
            head = head.next(&mut disk[at..at + 512]);
        }
        (disk, head)
    }

    fn verdict(disk: &[u8], acknowledged: u32) -> Result<Head, String> {
        check(&mut Cursor::new(disk), &RING, acknowledged).map_err(|e| e.to_string())
    }

    #[test]
    fn whole_chains_are_whole() {
        for blocks in 0..30 {
            let (disk, head) = disk(blocks);
            assert_eq!(verdict(&disk, blocks), Ok(head), "{blocks}");
            assert_eq!(newest(&mut Cursor::new(&disk), &RING).unwrap(), head);
            let lost = verdict(&disk, blocks + 1).unwrap_err();
            assert!(lost.contains("was acknowledged"), "{lost}");
        }
    }

    #[test]
    fn every_flipped_byte_is_found_or_was_under_way() {
        for blocks in [3, 8, 21] {
            let (good, head) = disk(blocks);
            for at in (1024..good.len()).step_by(13) {
                let mut bad = good.clone();
                bad[at] ^= 0x40;
                let slot = ((at - 1024) / 512) as u32;
                if slot == (blocks + 1) % 8 {
                    assert_eq!(verdict(&bad, blocks), Ok(head), "{blocks} {at}");
                } else {
                    assert!(verdict(&bad, blocks).is_err(), "{blocks} {at}");
                }
            }
        }
    }

    #[test]
    fn a_write_that_was_lost_or_undone_is_found() {
        let (good, _) = disk(21);
        let (older, _) = disk(20);
        for counter in 14..=21u32 {
            let at = RING.place(counter) as usize;
            // The slot as it was one round before.
            let (old, _) = disk(counter - 1);
            let mut bad = good.clone();
            bad[at..at + 512].copy_from_slice(&old[at..at + 512]);
            assert!(verdict(&bad, 21).is_err(), "{counter}");
            bad[at..at + 512].fill(0);
            assert!(verdict(&bad, 21).is_err(), "{counter}");
        }
        assert!(verdict(&older, 20).is_ok());
    }

    #[test]
    fn blocks_of_another_run_do_not_pass() {
        let (mut bad, head) = disk(4);
        let other = Head { counter: 4, hash: !head.hash };
        let at = RING.place(5) as usize;
        other.next(&mut bad[at..at + 512]);
        assert!(verdict(&bad, 5).unwrap_err().contains("does not follow"));
        let (mut bad, _) = disk(4);
        bad[1024 + 6 * 512..1024 + 7 * 512].fill(9);
        assert!(verdict(&bad, 4).unwrap_err().contains("slot 6"));
    }

    #[test]
    fn a_ring_fits_its_disk() {
        assert_eq!(Ring::linux(64 << 10), None);
        assert_eq!(Ring::linux((64 << 10) + 8192).unwrap().slots, 2);
        let large = Ring::linux(1 << 40).unwrap();
        assert_eq!(large.slots, 16384);
        assert_eq!(large.place(16385), large.offset + 4096);
    }
}
