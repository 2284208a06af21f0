//! What is known of the destination's memory, and of how fast things go: for all threads.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pages::{
    Choice, HASH, Index, Known, PAGE_SIZE, PageHasher, Place, Policy, Printer, Prints, Seen,
};
use types::Force;

/// Memory for the fingerprints of pages that were sent more than once.
const KNOWN: usize = 64 << 20;

/// Shared knowledge.
pub(crate) struct Desk {
    knowledge: Mutex<Knowledge>,
    pace: Mutex<Pace>,
    pub(super) hasher: PageHasher,
    pub(super) printer: Printer,
    pub(super) force: Option<Force>,
}

#[derive(Default)]
struct Knowledge {
    index: Index,
    known: Known,
    seen: Seen,
    /// By the block's index in the stream: its pages are placed, and what refers to them
    /// is understood.
    placed: Vec<bool>,
}

/// What is known of a page before it is sent.
pub(super) struct Fact {
    /// It was sent before.
    pub(super) before: bool,
    /// Its hash, as the destination has told it.
    pub(super) told: Option<[u8; HASH]>,
    /// Fingerprints of what the destination has.
    pub(super) prints: Option<Prints>,
    /// It may be sent as a copy, or by what changed.
    pub(super) placed: bool,
}

impl Desk {
    pub(super) fn new(
        threads: usize,
        (image, parts): ([u8; 32], [u8; 32]),
        force: Option<Force>,
    ) -> Self {
        Self {
            knowledge: Mutex::new(Knowledge { known: Known::new(KNOWN), ..Knowledge::default() }),
            pace: Mutex::new(Pace::new(threads as f64)),
            hasher: PageHasher::new(image),
            printer: Printer::new(parts),
            force,
        }
    }

    fn knowledge(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of blocks is known.
    pub(super) fn bind(&self, lengths: impl Iterator<Item = u64>) {
        let mut knowledge = self.knowledge();
        for (block, length) in (0..).zip(lengths) {
            knowledge.known.add_block(block, length);
        }
    }

    /// What the destination has said of its memory; `placed` by the block's index.
    pub(super) fn told(&self, index: Index, placed: Vec<bool>) {
        let mut knowledge = self.knowledge();
        knowledge.index = index;
        knowledge.placed = placed;
    }

    /// A page may come again from here on; nothing is under way.
    pub(super) fn begin_pass(&self) {
        let mut knowledge = self.knowledge();
        knowledge.known.begin_pass();
        knowledge.seen.clear();
    }

    /// The next run of a block's pages that were sent more than once.
    pub(super) fn sent_again(&self, block: u16, from: u64, most: u64) -> Option<Range<u64>> {
        self.knowledge().known.sent_again(block, from, most)
    }

    /// Whether this is, for all that is known, what the destination has.
    pub(super) fn is_there(&self, place: Place, page: &[u8; PAGE_SIZE]) -> bool {
        let prints = self.printer.prints(page);
        self.knowledge().known.prints(place) == Some(&prints)
    }

    /// The page is about to be sent: what was known of it.
    pub(super) fn fact(&self, place: Place) -> Fact {
        let mut knowledge = self.knowledge();
        Fact {
            before: knowledge.known.sent(place),
            told: knowledge.index.told(place),
            prints: knowledge.known.prints(place).copied(),
            placed: knowledge.placed.get(usize::from(place.0)).copied().unwrap_or(false),
        }
    }

    /// The page is sent: the destination will have this. Remembered if it was sent before.
    pub(super) fn sent(&self, place: Place, prints: Option<Prints>) {
        let mut knowledge = self.knowledge();
        knowledge.index.gone(place);
        if let Some(prints) = prints {
            knowledge.known.keep(place, prints);
        }
    }

    /// The destination has this page already.
    pub(super) fn known(&self, place: Place, prints: Prints) {
        self.knowledge().known.keep(place, prints);
    }

    /// A page of the block that was sent in this pass with this content.
    pub(super) fn seen(&self, block: u16, content: u64) -> Option<u64> {
        self.knowledge().seen.find(block, content)
    }

    /// Pages are on their way with these contents.
    pub(super) fn add_seen(&self, pages: &mut Vec<(Place, u64)>) {
        let mut knowledge = self.knowledge();
        pages.drain(..).for_each(|(place, content)| knowledge.seen.add(place, content));
    }

    /// How to pack the next batch.
    pub(super) fn choice(&self) -> Choice {
        self.pace().policy.next_choice()
    }

    /// The link, not the cores, is what there is too little of.
    pub(super) fn link_is_short(&self) -> bool {
        self.pace().policy.chosen() != Choice::Raw
    }

    /// A batch was packed: bytes before and after, and how long it took.
    pub(super) fn packed(&self, choice: Choice, before: usize, after: usize, took: Duration) {
        if before > 0 {
            self.pace().policy.packed(choice, before, after, took.as_secs_f64());
        }
    }

    /// Bytes were handed to the link.
    pub(super) fn linked(&self, bytes: u64) {
        self.pace().sent(bytes);
    }

    /// The reader waited so long for the link.
    pub(super) fn waited(&self, time: Duration) {
        self.pace().waited += time;
    }
}

/// What the link carries, as seen over a tenth of a second, and what follows from it.
struct Pace {
    policy: Policy,
    since: Instant,
    bytes: u64,
    /// The window was full for so long: the link, not the reader, was the limit.
    waited: Duration,
}

impl Pace {
    fn new(cores: f64) -> Self {
        let policy = Policy::new(cores);
        Self { policy, since: Instant::now(), bytes: 0, waited: Duration::ZERO }
    }

    fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds < 0.1 {
            return;
        }
        let linked = self.waited.as_secs_f64() > seconds / 4.0;
        let rate = self.bytes as f64 / seconds;
        // Where the link was not the limit it may carry more, but nobody knows how much.
        if linked || rate > self.policy.measured().link {
            self.policy.link(rate, true);
        }
        (self.since, self.bytes, self.waited) = (Instant::now(), 0, Duration::ZERO);
    }
}
