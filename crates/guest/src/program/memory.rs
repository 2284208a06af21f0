//! Memory that holds content, and memory that is written again and again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use godwit_guest::dirty::WorkingSet;
use godwit_guest::fill::{Content, PAGE};
use godwit_guest::{Dirty, Fill};

use super::{Every, Guest, say};

/// Pages of a MiB.
const PAGES: u32 = 256;

/// The memory that roles work on.
#[derive(Default)]
pub(crate) struct Memory {
    fill: OnceLock<(Content, Vec<u8>)>,
    filled: AtomicU32,
    dirty: OnceLock<Mutex<WorkingSet>>,
    dirtied: AtomicU64,
}

impl Memory {
    /// MiB filled so far.
    pub(crate) fn filled(&self) -> u32 {
        self.filled.load(Ordering::Relaxed)
    }

    /// Pages rewritten since the start.
    pub(crate) fn dirtied(&self) -> u64 {
        self.dirtied.load(Ordering::Relaxed)
    }

    /// Checks everything that is ready; returns the pages of both kinds.
    ///
    /// # Errors
    /// The first page that is wrong.
    pub(crate) fn verify(&self) -> Result<(usize, usize), String> {
        let mut scratch = [0; PAGE];
        let mut filled = 0;
        if let Some((content, memory)) = self.fill.get() {
            for (index, page) in (0u32..).zip(memory.chunks_exact(PAGE)) {
                if !content.is_page(index, page, &mut scratch) {
                    return Err(format!("fill page {index} is not what was written"));
                }
            }
            filled = memory.len() / PAGE;
        }
        let dirty = match self.dirty.get() {
            Some(set) => {
                let set = set.lock().unwrap_or_else(PoisonError::into_inner);
                set.verify()?;
                set.pages()
            }
            None => 0,
        };
        Ok((filled, dirty))
    }
}

/// The role `fill`.
pub(super) fn fill(guest: &Guest, role: Fill) {
    let mut memory = Vec::new();
    if let Err(e) = memory.try_reserve_exact(role.mib as usize * PAGES as usize * PAGE) {
        return say(&format!("guest ERROR fill {} MiB: {e}", role.mib));
    }
    let content = Content::new(role.mix);
    let mut page = [0; PAGE];
    for index in 0..role.mib * PAGES {
        content.page(index, &mut page);
        memory.extend_from_slice(&page);
        guest.memory.filled.store((index + 1) / PAGES, Ordering::Relaxed);
    }
    // Set once: there is one thread for this role.
    let _ = guest.memory.fill.set((content, memory));
    say(&format!("guest filled {} MiB", role.mib));
}

/// The role `dirty`.
pub(super) fn dirty(guest: &Guest, role: Dirty) {
    let pages = role.set as usize * PAGES as usize;
    let set = guest.memory.dirty.get_or_init(|| Mutex::new(WorkingSet::new(pages, role.percent)));
    say(&format!("guest dirties {} MiB of {} MiB each second", role.rate, role.set));
    let mut every = Every::new(Duration::from_millis(4));
    let (mut owed, mut last) = (0.0, Instant::now());
    loop {
        let count = if role.rate == 0 {
            // Whoever verifies gets its turn.
            std::thread::yield_now();
            PAGES as usize
        } else {
            every.wait();
            let now = Instant::now();
            owed += (now - last).as_secs_f64() * f64::from(role.rate) * f64::from(PAGES);
            last = now;
            // What a long pause owes is not made up for.
            owed = owed.min(f64::from(role.rate) * f64::from(PAGES) / 10.0 + 1.0);
            owed as usize
        };
        owed -= count as f64;
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.write(count);
        guest.memory.dirtied.store(set.written(), Ordering::Relaxed);
    }
}
