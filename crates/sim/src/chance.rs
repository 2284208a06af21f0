//! Chance that comes from a seed (SplitMix64, Steele, Lea and Flood 2014).

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn hits(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// From `low` to `high`, more often near `low`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = high - low + 1;
        low + self.below(width).min(self.below(width))
    }
}
