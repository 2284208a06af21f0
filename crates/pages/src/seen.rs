//! Which page has a content that was sent before.

use crate::Place;

/// Finds pages of the same content among those that were sent since it was last emptied.
/// A table of fixed size, in which a newer page takes an older one's place.
#[derive(Debug)]
pub struct Seen {
    slots: Vec<(u64, u16, u32)>,
}

/// Pages that are remembered; a power of two.
const SLOTS: usize = 1 << 16;

impl Default for Seen {
    fn default() -> Self {
        Self { slots: vec![(0, 0, 0); SLOTS] }
    }
}

impl Seen {
    /// A page of the block with this content, by its hash.
    pub fn find(&self, block: u16, content: u64) -> Option<u64> {
        let (found, of, page) = *self.slots.get(content as usize % SLOTS)?;
        (found == content && of == block && page > 0).then(|| u64::from(page) - 1)
    }

    /// The page was sent with this content. Of blocks beyond 16 TiB nothing is remembered.
    pub fn add(&mut self, (block, page): Place, content: u64) {
        if let (Some(slot), Ok(page)) =
            (self.slots.get_mut(content as usize % SLOTS), u32::try_from(page.saturating_add(1)))
        {
            *slot = (content, block, page);
        }
    }

    /// Forgets everything: pages are about to be overwritten.
    pub fn clear(&mut self) {
        self.slots.fill((0, 0, 0));
    }
}
