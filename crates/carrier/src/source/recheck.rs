//! Compares memory with what was sent, for dirty logs that miss writes.
//!
//! QEMU's emulator marks a page dirty before it writes to it, and may drop the
//! page's write protection after a synchronisation has cleared the mark: later
//! writes then go unseen. That can only happen to a page that was dirty at a
//! synchronisation, so every page that was sent more than once is suspect, and
//! no other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use pages::PAGE_SIZE;
use stream::{Content, RamBlock};
use types::BlockPlacement;
use xxhash_rust::xxh3::xxh3_64;

use crate::CarrierError;

/// Pages are read in runs of at most this many.
const RUN: usize = 64;
/// The digest of a page of zeros.
const ZERO: u64 = 0;

/// What was sent of each block, by digest. Empty: nothing is compared.
#[derive(Default)]
pub(super) struct Recheck {
    blocks: Vec<Block>,
}

struct Block {
    name: String,
    file: File,
    offset: u64,
    index: Option<u16>,
    pages: Vec<Sent>,
}

#[derive(Clone, Copy, Default)]
struct Sent {
    digest: u64,
    times: u8,
}

impl Recheck {
    pub(super) fn open(table: &[BlockPlacement]) -> Result<Self, CarrierError> {
        let mut blocks = Vec::new();
        for row in table {
            let file = File::open(&row.file)
                .map_err(|e| CarrierError::Memory(format!("{}: {e}", row.file.display())))?;
            blocks.push(Block {
                name: row.block.clone(),
                file,
                offset: row.offset,
                index: None,
                pages: vec![Sent::default(); (row.length / PAGE_SIZE as u64) as usize],
            });
        }
        Ok(Self { blocks })
    }

    /// Matches the table with the stream's blocks; one that is not there is not compared.
    pub(super) fn bind(&mut self, stream: &[RamBlock]) {
        for block in &mut self.blocks {
            let found = stream.iter().position(|b| b.name == block.name);
            block.index = found.and_then(|i| u16::try_from(i).ok());
        }
    }

    /// Notes that a page was sent.
    pub(super) fn sent(&mut self, index: u16, number: u64, content: &Content<'_>) {
        let Some(block) = self.blocks.iter_mut().find(|b| b.index == Some(index)) else { return };
        let Some(sent) = block.pages.get_mut(number as usize) else { return };
        sent.digest = match content {
            Content::Zero => ZERO,
            Content::Raw(bytes) => digest(bytes),
        };
        sent.times = sent.times.saturating_add(1);
    }

    /// Gives every suspect page that is not what was last sent; returns how many.
    pub(super) fn differing(&mut self, mut give: impl FnMut(u16, u64, &[u8])) -> io::Result<usize> {
        let mut bytes = vec![0; RUN * PAGE_SIZE];
        let mut found = 0;
        for block in &self.blocks {
            let Some(index) = block.index else { continue };
            let mut at = 0;
            while let Some(run) = suspects(&block.pages, at) {
                let part = &mut bytes[..run.len() * PAGE_SIZE];
                block.file.read_exact_at(part, block.offset + (run.start * PAGE_SIZE) as u64)?;
                for (page, number) in part.chunks_exact(PAGE_SIZE).zip(run.clone()) {
                    if digest(page) != block.pages[number].digest {
                        found += 1;
                        give(index, number as u64, page);
                    }
                }
                at = run.end;
            }
        }
        Ok(found)
    }
}

/// The next run of pages that were sent more than once.
fn suspects(pages: &[Sent], from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + pages.get(from..)?.iter().position(|p| p.times > 1)?;
    let length = pages[start..].iter().take(RUN).take_while(|p| p.times > 1).count();
    Some(start..start + length)
}

fn digest(page: &[u8]) -> u64 {
    if page.try_into().is_ok_and(|page: &[u8; PAGE_SIZE]| pages::is_zero(page)) {
        return ZERO;
    }
    // Zero is taken: a page whose digest is zero merely counts as another one's.
    xxh3_64(page).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_sent_again_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        std::fs::write(&path, vec![7u8; 200 * PAGE_SIZE]).unwrap();
        let length = (200 * PAGE_SIZE) as u64;
        let row = BlockPlacement { block: "pc.ram".into(), file: path, offset: 0, length };
        let mut recheck = Recheck::open(&[row]).unwrap();
        let block = |name: &str| RamBlock { name: name.into(), length };
        recheck.bind(&[block("other"), block("pc.ram")]);
        let (same, old) = ([7u8; PAGE_SIZE], [6u8; PAGE_SIZE]);
        for number in 0..200 {
            recheck.sent(1, number, &Content::Raw(&same));
            recheck.sent(0, number, &Content::Zero);
        }
        recheck.sent(1, 3, &Content::Raw(&old));
        recheck.sent(1, 100, &Content::Zero);
        for number in 120..199 {
            recheck.sent(1, number, &Content::Raw(&same));
        }
        recheck.sent(1, 190, &Content::Raw(&old));
        recheck.sent(1, 5_000, &Content::Zero);
        let mut seen = Vec::new();
        let found = recheck.differing(|index, number, page| {
            assert!(page == same);
            seen.push((index, number));
        });
        assert_eq!(found.unwrap(), 3);
        assert_eq!(seen, [(1, 3), (1, 100), (1, 190)]);
    }
}
