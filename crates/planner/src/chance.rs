//! Chance that is passed in: the same seed always gives the same numbers; and the
//! functions of real numbers that go with it, made of exactly rounded operations
//! only, so that they are the same on every machine.

/// Pseudo-random numbers (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        // A state of zero would stay zero; neighbouring seeds are to differ much.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 of 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let product = u128::from(self.next()) * n as u128;
        (product >> 64) as usize
    }

    /// An exponentially distributed number with mean 1.
    #[inline]
    pub(crate) fn exponential(&mut self) -> f64 {
        // The uniform number is 2^-zeros × mantissa, with a mantissa in [1, 2).
        let bits = self.next() | 1;
        let zeros = bits.leading_zeros();
        let mantissa = f64::from_bits((((bits << zeros) >> 11) & MANTISSA) | ONE);
        f64::from(zeros + 1) * LN_2 - ln_mantissa(mantissa)
    }

    /// Shuffles (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

const LN_2: f64 = std::f64::consts::LN_2;
const MANTISSA: u64 = (1 << 52) - 1;
const ONE: u64 = 1023 << 52;

/// Natural logarithm of a number in [1, 2).
#[inline]
fn ln_mantissa(m: f64) -> f64 {
    let y = (m - 1.0) / (m + 1.0);
    let y2 = y * y;
    2.0 * y * (1.0 + y2 * (1.0 / 3.0 + y2 * (1.0 / 5.0 + y2 * (1.0 / 7.0 + y2 / 9.0))))
}

/// `base` to the power of `exponent`, for a base above 0 and an exponent of 0 to 1.
pub(crate) fn power(base: f64, exponent: f64) -> f64 {
    // Square roots for the binary digits of the exponent.
    let (mut result, mut root, mut rest) = (1.0, base, exponent.clamp(0.0, 1.0));
    if rest >= 1.0 {
        return base;
    }
    for _ in 0..40 {
        root = root.sqrt();
        rest *= 2.0;
        if rest >= 1.0 {
            result *= root;
            rest -= 1.0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distributed_as_told() {
        let mut rng = Chance::new(7);
        let n = 100_000;
        let mean = (0..n).map(|_| rng.exponential()).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let above = (0..n).filter(|_| rng.exponential() > 3.0).count() as f64 / f64::from(n);
        assert!((above - (-3.0f64).exp()).abs() < 0.003, "{above}");
        let mut seen = [0; 5];
        (0..n).for_each(|_| seen[rng.below(5)] += 1);
        assert!(seen.iter().all(|s| (19_000..21_000).contains(s)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn powers_are_right() {
        for (base, exponent) in [(2.0, 0.5), (1e-6, 0.25), (10.0, 0.0), (10.0, 1.0), (3.0, 0.37)] {
            let right = f64::powf(base, exponent);
            assert!((power(base, exponent) / right - 1.0).abs() < 1e-9, "{base}^{exponent}");
        }
    }
}
