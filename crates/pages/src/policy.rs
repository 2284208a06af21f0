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
}

impl Choice {
    /// The zstd level; `None` for raw.
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Raw => None,
            Self::Fast => Some(-1),
            Self::Zstd => Some(1),
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
    /// Size after / size before at level -1, as last seen.
    pub fast_ratio: f64,
    /// Size after / size before at level 1, as last seen.
    pub zstd_ratio: f64,
    /// Cores that compression may use.
    pub cores: f64,
}

impl Default for Measured {
    fn default() -> Self {
        Self { link: 0.0, fast: 2.5e9, zstd: 0.7e9, fast_ratio: 0.7, zstd_ratio: 0.6, cores: 1.0 }
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
    ];
    let mut best = (Choice::Raw, m.link);
    for offer in offers {
        if offer.1 > best.1 * WORTH {
            best = offer;
        }
    }
    best.0
}
