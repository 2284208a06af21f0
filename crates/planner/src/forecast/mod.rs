//! The forecast: how long a migration will take, how much it will send and how
//! long the VM will stand still.
//!
//! Pre-copy in rounds: each round sends what the one before left dirty. Within `t`
//! seconds a guest that writes `d` bytes of new pages a second into a working set
//! of `W` bytes leaves `W · (1 − e^(−d·t/W))` dirty, which is `d·t` at first and
//! never more than `W`. Memory that is there already (a retained image) is not
//! sent, and what is sent is compressed. A model is never quite right, so each
//! answer has an interval, whose width comes from how past forecasts did
//! ([`Experience`]).

mod experience;

use std::time::Duration;

use types::{Bytes, Rate};

pub use experience::{Experience, Interval, Measured};

use crate::order::Pace;

/// Rounds after which a pre-copy is given up.
const MOST_ROUNDS: u32 = 30;
/// A round that leaves more than this share of the one before is the last that is
/// worth it.
const SHRINKS: f64 = 0.95;

/// What is known of a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// What has a content; zero pages are only named.
    pub used: Bytes,
    /// Share of it that the destination has already, 0 to 1.
    pub present: f64,
    /// Bytes on the wire for a byte of memory, 0 to 1.
    pub compressed: f64,
    /// New dirty pages, in bytes a second.
    pub dirty_rate: f64,
    /// What is written again and again; [`Memory::used`] where it is not known.
    pub working_set: Bytes,
}

/// Under which conditions it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// What the migration gets of its links.
    pub rate: Rate,
    /// The longest pause allowed.
    pub blackout_budget: Duration,
    /// From the request to the first page, and from the start at the destination
    /// to the end.
    pub overhead: Duration,
    /// What a blackout takes besides the last pages: stopping, device state, the
    /// claim, starting.
    pub switch: Duration,
}

/// What a migration will do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From the request to the end.
    pub total: Duration,
    /// How long the VM stands still.
    pub blackout: Duration,
    /// Bytes on the wire.
    pub sent: Bytes,
    /// Passes over memory, the first and the last included.
    pub rounds: u32,
    /// The blackout fits its budget. If not, the migration would end without the VM
    /// having moved.
    pub converges: bool,
}

/// The forecast of one migration.
#[must_use]
pub fn forecast(memory: &Memory, terms: &Terms) -> Forecast {
    let rate = (terms.rate.0 as f64 / 8.0).max(1.0);
    let squeeze = memory.compressed.clamp(0.0, 1.0);
    let working_set = memory.working_set.0 as f64;
    let budget = terms.blackout_budget.as_secs_f64() - terms.switch.as_secs_f64();
    let mut left = memory.used.0 as f64 * (1.0 - memory.present.clamp(0.0, 1.0));
    let (mut time, mut sent, mut rounds) = (0.0, 0.0, 0);
    let converges = loop {
        rounds += 1;
        let round = left * squeeze / rate;
        (time, sent) = (time + round, sent + left * squeeze);
        let dirty = dirtied(memory.dirty_rate, working_set, round);
        let fits = dirty * squeeze / rate <= budget;
        if fits || dirty > left * SHRINKS || rounds == MOST_ROUNDS {
            left = dirty;
            break fits;
        }
        left = dirty;
    };
    let last = left * squeeze / rate;
    let blackout = last + terms.switch.as_secs_f64();
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX);
    Forecast {
        total: seconds(time + blackout + terms.overhead.as_secs_f64()),
        blackout: seconds(blackout),
        sent: Bytes((sent + left * squeeze) as u64),
        rounds: rounds + 1,
        converges,
    }
}

/// Bytes that are dirty after `time` seconds.
fn dirtied(rate: f64, working_set: f64, time: f64) -> f64 {
    if working_set <= 0.0 {
        return 0.0;
    }
    working_set * -(-rate.max(0.0) * time / working_set).exp_m1()
}

/// What a migration gets of a link that `others` use as well, all alike.
#[must_use]
pub fn share(link: Rate, others: u32) -> Rate {
    Rate(link.0 / (u64::from(others) + 1))
}

/// The rates at which a VM may move, for the order of the moves: shares of `full`,
/// each with its forecast time. Rates at which it would not converge are left out.
#[must_use]
pub fn paces(memory: &Memory, terms: &Terms, full: Rate, past: &Experience) -> Vec<Pace> {
    let shares = [(1, 1), (3, 4), (1, 2), (1, 3), (1, 4)].map(|(n, d)| Rate(full.0 / d * n));
    let pace = |rate: Rate| {
        let forecast = forecast(memory, &Terms { rate, ..*terms });
        let time = past.total(&forecast).likely;
        let time = Duration::try_from_secs_f64(time).ok()?;
        forecast.converges.then_some(Pace { rate, time })
    };
    shares.into_iter().filter_map(pace).collect()
}

#[cfg(test)]
mod tests;
