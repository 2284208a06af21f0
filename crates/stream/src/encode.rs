//! Puts pages and verbatim bytes together into a stream that QEMU loads.

use thiserror::Error;

use crate::decode::{Content, Page, RamBlock};
use crate::format::flag;

/// A page that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The block's index is not in the list, or its name is too long.
    #[error("no block number {0} that could be named in the stream")]
    Block(u16),
    /// The offset is not a page of the block, or the content not a page.
    #[error("offset {offset:#x} with {bytes} bytes is not a page of block {block:?}")]
    Place {
        /// Name of the block.
        block: String,
        /// Offset in bytes.
        offset: u64,
        /// Length of the content.
        bytes: usize,
    },
}

/// Writes page records between verbatim bytes.
///
/// It names the block in the first record after verbatim bytes and whenever
/// the block changes, so that it does not matter which records were taken out.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    blocks: Vec<RamBlock>,
    page_size: usize,
    last: Option<u16>,
}

impl Encoder {
    /// An encoder that knows no blocks yet; only verbatim bytes can be written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the list of blocks and the size of a page in bytes, which a
    /// decoder that sees this encoder's output has at [`crate::Mark::Blocks`].
    pub fn set_blocks(&mut self, blocks: &[RamBlock], page_size: usize) {
        self.blocks = blocks.to_vec();
        self.page_size = page_size;
        self.last = None;
    }

    /// Appends bytes to `out` as they are.
    pub fn verbatim(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.last = None;
        out.extend_from_slice(bytes);
    }

    /// Appends a page record to `out`; on error nothing is appended.
    ///
    /// # Errors
    /// [`EncodeError`] when block, offset or length do not fit the list.
    pub fn page(&mut self, page: Page<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let block = self.blocks.get(usize::from(page.block));
        let block = block.ok_or(EncodeError::Block(page.block))?;
        let name = u8::try_from(block.name.len()).map_err(|_| EncodeError::Block(page.block))?;
        let (kind, bytes) = match page.content {
            Content::Zero => (flag::ZERO, self.page_size),
            Content::Raw(bytes) => (flag::PAGE, bytes.len()),
        };
        let aligned = page.offset.is_multiple_of(self.page_size.max(1) as u64);
        if bytes != self.page_size || !aligned || page.offset >= block.length {
            let (block, offset) = (block.name.clone(), page.offset);
            return Err(EncodeError::Place { block, offset, bytes });
        }
        if self.last == Some(page.block) {
            out.extend_from_slice(&(page.offset | kind | flag::CONTINUE).to_be_bytes());
        } else {
            out.extend_from_slice(&(page.offset | kind).to_be_bytes());
            out.push(name);
            out.extend_from_slice(block.name.as_bytes());
        }
        match page.content {
            Content::Zero => out.push(0),
            Content::Raw(bytes) => out.extend_from_slice(bytes),
        }
        self.last = Some(page.block);
        Ok(())
    }
}
