//! Tells the source what a retained image holds, so that it need not be sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pages::{HASH, IndexPart, MAX_INDEXED, PAGE_SIZE, PageHasher};
use types::BlockPlacement;
use wire::Kind;

use crate::CarrierError;
use crate::ending::Ending;

/// Longest memory whose image is told, in bytes.
pub(super) const LONGEST: u64 = MAX_INDEXED * PAGE_SIZE as u64;
/// Pages of one frame.
const ROW: usize = 4096;
/// Bytes of the index that may be under way.
const WINDOW: u64 = 8 << 20;
const LOOK: Duration = Duration::from_millis(50);

/// Hashes the files as they are. Pages begin to come only once the source has heard all.
pub(super) fn tell(ending: &Ending, blocks: &[BlockPlacement], key: [u8; 32]) {
    let hasher = PageHasher::new(key);
    for row in blocks {
        if let Err(error) = tell_block(ending, row, &hasher) {
            let why = format!("{}: {error}", row.file.display());
            return ending.fail(CarrierError::Memory(why));
        }
    }
    ending.outbox.push_bytes(Kind::IndexEnd, &[]);
}

fn tell_block(ending: &Ending, row: &BlockPlacement, hasher: &PageHasher) -> std::io::Result<()> {
    let file = File::open(&row.file)?;
    let pages = row.length / PAGE_SIZE as u64;
    let mut bytes = vec![0; 64 * PAGE_SIZE];
    let mut first = 0;
    while first < pages {
        let end = pages.min(first + ROW as u64);
        let mut buffer = ending.outbox.buffer();
        IndexPart::write_head(&row.block, first, &mut buffer);
        while first < end {
            let count = (end - first).min(64) as usize;
            let part = &mut bytes[..count * PAGE_SIZE];
            file.read_exact_at(part, row.offset + first * PAGE_SIZE as u64)?;
            for page in part.chunks_exact(PAGE_SIZE) {
                buffer.extend_from_slice(&hasher.hash(page));
            }
            first += count as u64;
        }
        while !ending.outbox.below(WINDOW, LOOK) {
            if ending.stopping() {
                return Ok(());
            }
        }
        let weight = buffer.len() as u64;
        debug_assert!(weight as usize >= HASH);
        ending.outbox.push(Kind::Index, buffer, weight);
    }
    Ok(())
}
