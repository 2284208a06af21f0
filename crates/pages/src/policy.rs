//! Whether compression pays: the link's rate against the compressor's.

/// How a batch is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// As it is.
    #[default]
    Raw,
    /// zstd level -1: cheap, saves less.
    Fast,
    /// zstd level 1.
    Zstd,
    /// zstd level 3: for slow links and idle cores.
    Strong,
}

impl Choice {
    /// The zstd level; `None` for raw.
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Raw => None,
            Self::Fast => Some(-1),
            Self::Zstd => Some(1),
            Self::Strong => Some(3),
        }
    }
}

/// What was measured, or is assumed until it is. Rates in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What the link carries.
    pub link: f64,
    /// Guest memory that one core compresses at level -1.
    pub fast: f64,
    /// Guest memory that one core compresses at level 1.
    pub zstd: f64,
    /// Guest memory that one core compresses at level 3.
    pub strong: f64,
    /// Size after / size before at level -1, as last seen.
    pub fast_ratio: f64,
    /// Size after / size before at level 1, as last seen.
    pub zstd_ratio: f64,
    /// Size after / size before at level 3, as last seen.
    pub strong_ratio: f64,
    /// Cores that compression may use.
    pub cores: f64,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            link: 0.0,
            fast: 2.5e9,
            zstd: 0.7e9,
            strong: 0.3e9,
            fast_ratio: 0.7,
            zstd_ratio: 0.6,
            strong_ratio: 0.55,
            cores: 1.0,
        }
    }
}

/// A choice must promise this much more than a cheaper one.
const WORTH: f64 = 1.1;

/// The cheapest way of sending that no other way clearly beats.
///
/// Compressed, memory moves at the rate of the link divided by the ratio, or
/// as fast as the cores compress, whichever is less.
pub fn choose(m: &Measured) -> Choice {
    let through = |rate: f64, ratio: f64| (rate * m.cores).min(m.link / ratio.max(0.01));
    let offers = [
        (Choice::Fast, through(m.fast, m.fast_ratio)),
        (Choice::Zstd, through(m.zstd, m.zstd_ratio)),
        (Choice::Strong, through(m.strong, m.strong_ratio)),
    ];
    let mut best = (Choice::Raw, m.link);
    for offer in offers {
        if offer.1 > best.1 * WORTH {
            best = offer;
        }
    }
    best.0
}

/// Weight of a new measurement in a smoothed one.
const NEW: f64 = 0.25;
/// Batches in a row for which another way than the chosen one is tried.
const TRY: u32 = 4;
/// Batches before the first try; the number doubles while trying changes
/// nothing, because it costs time.
const TRY_FIRST: u32 = 64;
/// Most batches between two tries.
const TRY_LAST: u32 = 2048;
/// A link that was not kept busy is taken to carry this much more each time,
const NOT_BUSY: f64 = 1.05;
/// up to this many times what it did carry.
const NOT_BUSY_MOST: f64 = 16.0;

/// [`choose`] over smoothed measurements. It has no clock: the caller measures.
#[derive(Debug, Clone)]
pub struct Policy {
    measured: Measured,
    chosen: Choice,
    /// Batches until the next try begins.
    left: u32,
    /// Batches between tries.
    every: u32,
    /// What is tried, and for how many batches yet.
    trying: (Choice, u32),
}

impl Policy {
    /// A policy that sends raw until the link's rate is known; `cores` may compress.
    pub fn new(cores: f64) -> Self {
        Self {
            measured: Measured { cores, ..Measured::default() },
            chosen: Choice::Raw,
            left: TRY_FIRST,
            every: TRY_FIRST,
            trying: (Choice::Raw, 0),
        }
    }

    /// What is known.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// What pays, by what is known.
    pub fn chosen(&self) -> Choice {
        self.chosen
    }

    /// How to pack the next batch.
    pub fn next_choice(&mut self) -> Choice {
        if self.trying.1 > 0 {
            self.trying.1 -= 1;
            return self.trying.0;
        }
        let chosen = choose(&self.measured);
        if chosen != self.chosen {
            self.chosen = chosen;
            self.every = TRY_FIRST;
            self.left = self.left.min(TRY_FIRST);
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 || self.measured.link <= 0.0 {
            return chosen;
        }
        self.every = (self.every * 2).min(TRY_LAST);
        self.left = self.every;
        let other = match chosen {
            Choice::Raw | Choice::Zstd if self.trying.0 != Choice::Fast => Choice::Fast,
            Choice::Raw | Choice::Fast | Choice::Strong => Choice::Zstd,
            Choice::Zstd => Choice::Strong,
        };
        self.trying = (other, TRY - 1);
        other
    }

    /// A batch was packed as told: bytes before and after, and how long it took.
    ///
    /// One that did not shrink says nothing: it was given up after its sample, which
    /// costs next to nothing, and the next batch may be of another kind.
    pub fn packed(&mut self, choice: Choice, before: usize, after: usize, seconds: f64) {
        let (before, after) = (before as f64, after as f64);
        if after >= before {
            return;
        }
        let m = &mut self.measured;
        let (rate, ratio) = match choice {
            Choice::Raw => return,
            Choice::Fast => (&mut m.fast, &mut m.fast_ratio),
            Choice::Zstd => (&mut m.zstd, &mut m.zstd_ratio),
            Choice::Strong => (&mut m.strong, &mut m.strong_ratio),
        };
        if before > 0.0 && seconds > 0.0 && seconds.is_finite() {
            // Times add up, rates do not: smooth seconds per byte.
            *rate = 1.0 / smooth(1.0 / *rate, seconds / before);
            *ratio = smooth(*ratio, after / before);
        }
    }

    /// The link carried this many bytes a second. `busy` says whether there
    /// was always something to send; if not, it could have carried more.
    pub fn link(&mut self, bytes_per_second: f64, busy: bool) {
        if !(bytes_per_second > 0.0 && bytes_per_second.is_finite()) {
            return;
        }
        let link = &mut self.measured.link;
        *link = match busy {
            true if *link > 0.0 => smooth(*link, bytes_per_second),
            true => bytes_per_second,
            false => {
                let more = (*link * NOT_BUSY).min(bytes_per_second * NOT_BUSY_MOST);
                link.max(more).max(bytes_per_second)
            }
        };
    }
}

fn smooth(old: f64, new: f64) -> f64 {
    old + (new - old) * NEW
}
