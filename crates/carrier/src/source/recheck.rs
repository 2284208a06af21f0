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
use stream::RamBlock;
use types::BlockPlacement;

use crate::CarrierError;

/// Pages are read in runs of at most this many.
const RUN: u64 = 64;

/// The memory files to compare. Empty: nothing is compared.
#[derive(Default)]
pub(super) struct Recheck {
    blocks: Vec<Block>,
}

struct Block {
    name: String,
    file: File,
    offset: u64,
    index: Option<u16>,
}

impl Recheck {
    pub(super) fn open(table: &[BlockPlacement]) -> Result<Self, CarrierError> {
        let mut blocks = Vec::new();
        for row in table {
            let file = File::open(&row.file)
                .map_err(|e| CarrierError::Memory(format!("{}: {e}", row.file.display())))?;
            let name = row.block.clone();
            blocks.push(Block { name, file, offset: row.offset, index: None });
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

    /// Gives every page of the runs that `suspects` finds in a block from a page on.
    pub(super) fn read(
        &self,
        mut suspects: impl FnMut(u16, u64, u64) -> Option<std::ops::Range<u64>>,
        mut give: impl FnMut(u16, u64, &[u8; PAGE_SIZE]),
    ) -> io::Result<()> {
        let mut bytes = vec![0; RUN as usize * PAGE_SIZE];
        for block in &self.blocks {
            let Some(index) = block.index else { continue };
            let mut at = 0;
            while let Some(run) = suspects(index, at, RUN) {
                let length = (run.end - run.start) as usize * PAGE_SIZE;
                let Some(part) = bytes.get_mut(..length) else {
                    return Err(io::Error::other("a run of suspects is too long"));
                };
                block.file.read_exact_at(part, block.offset + run.start * PAGE_SIZE as u64)?;
                for (page, number) in part.as_chunks().0.iter().zip(run.clone()) {
                    give(index, number, page);
                }
                at = run.end;
            }
        }
        Ok(())
    }
}
