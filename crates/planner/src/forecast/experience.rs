//! What past forecasts teach about the next.

use super::Forecast;

/// What came of a migration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// From the request to the end, in seconds.
    pub total_seconds: f64,
    /// How long the VM stood still, in seconds.
    pub blackout_seconds: f64,
    /// Bytes on the wire.
    pub sent_bytes: f64,
}

/// A value and where it lies nine times of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// One of twenty lies below.
    pub low: f64,
    /// The median.
    pub likely: f64,
    /// One of twenty lies above.
    pub high: f64,
}

/// Of a normal distribution, 5 % lie further out.
const ONE_SIDED_5: f64 = 1.645;
/// How much of what was learnt counts after another migration.
const KEPT: f64 = 0.95;

/// How far the truth was from the forecasts, as logarithms of their ratio, the
/// newer the heavier.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Errors {
    weight: f64,
    mean: f64,
    /// Weighted sum of squared distances from the mean.
    squares: f64,
    /// Weighted sum of |truth ÷ forecast − 1|.
    off: f64,
    seen: u64,
}

impl Default for Errors {
    /// Before anything is known: as if three forecasts had been off by a third.
    fn default() -> Self {
        Self { weight: 3.0, mean: 0.0, squares: 3.0 * 0.3 * 0.3, off: 0.0, seen: 0 }
    }
}

impl Errors {
    /// What is not a positive number teaches nothing.
    fn learn(&mut self, forecast: f64, truth: f64) {
        let ratio = truth / forecast;
        if !(ratio.is_finite() && ratio > 0.0) {
            return;
        }
        self.weight = self.weight * KEPT + 1.0;
        let off = ratio.ln() - self.mean;
        self.mean += off / self.weight;
        self.squares = self.squares * KEPT + off * (ratio.ln() - self.mean);
        self.off = self.off * KEPT + (ratio - 1.0).abs();
        self.seen += 1;
    }

    fn around(&self, forecast: f64) -> Interval {
        let spread = ONE_SIDED_5 * (self.squares / self.weight).max(0.0).sqrt();
        let at = |log: f64| forecast * log.exp();
        Interval {
            low: at(self.mean - spread),
            likely: at(self.mean),
            high: at(self.mean + spread),
        }
    }

    fn error(&self) -> Option<f64> {
        let weight = (1.0 - KEPT.powf(self.seen as f64)) / (1.0 - KEPT);
        (self.seen > 0).then(|| self.off / weight)
    }
}

/// How past forecasts did, of total time, blackout and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Experience {
    total: Errors,
    blackout: Errors,
    sent: Errors,
}

impl Experience {
    /// Learns from a migration that has ended.
    pub fn learn(&mut self, forecast: &Forecast, truth: &Measured) {
        self.total.learn(forecast.total.as_secs_f64(), truth.total_seconds);
        self.blackout.learn(forecast.blackout.as_secs_f64(), truth.blackout_seconds);
        self.sent.learn(forecast.sent.0 as f64, truth.sent_bytes);
    }

    /// Total time in seconds.
    #[must_use]
    pub fn total(&self, forecast: &Forecast) -> Interval {
        self.total.around(forecast.total.as_secs_f64())
    }

    /// Blackout in seconds.
    #[must_use]
    pub fn blackout(&self, forecast: &Forecast) -> Interval {
        self.blackout.around(forecast.blackout.as_secs_f64())
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn sent(&self, forecast: &Forecast) -> Interval {
        self.sent.around(forecast.sent.0 as f64)
    }

    /// The mean error of past forecasts of the total time, as a share of the
    /// forecast; `None` before the first.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        self.total.error()
    }
}
