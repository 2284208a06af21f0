//! A VM's load, forecast from its past.

/// How fast the recent mean follows.
const RECENT: f64 = 0.5;
/// How fast the long mean follows.
const LONG: f64 = 0.05;
/// How fast the error's variance follows.
const ERROR: f64 = 0.1;
/// The share of the long mean in a forecast: noise around a level comes back to it.
const PULL: f64 = 0.5;

/// What is known of a load that is observed round by round.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    recent: f64,
    long: f64,
    variance: f64,
    seen: bool,
}

impl Load {
    /// A load of which one value is known, and how far the next may be off.
    #[must_use]
    pub fn new(value: f64, deviation: f64) -> Self {
        Self { recent: value, long: value, variance: deviation * deviation, seen: true }
    }

    /// Learns the next value.
    pub fn observe(&mut self, value: f64) {
        if !self.seen {
            *self = Self::new(value, 0.0);
            return;
        }
        let error = value - self.expected();
        self.variance += ERROR * (error * error - self.variance);
        self.recent += RECENT * (value - self.recent);
        self.long += LONG * (value - self.long);
    }

    /// What is expected next.
    #[must_use]
    pub fn expected(&self) -> f64 {
        PULL * self.long + (1.0 - PULL) * self.recent
    }

    /// The variance of the forecasts' errors.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }
}
