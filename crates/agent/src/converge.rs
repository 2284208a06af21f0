//! When to stop the VM: a pure decision at the beginning of every pass.
//!
//! What a pass begins with is what stopping now would leave to be sent. It is
//! worth going on while passes shrink; once they do not, stopping is right if
//! the rest fits the blackout the user allows, and otherwise never.

use std::time::Duration;

/// What is known at the beginning of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// QEMU's count of dirty-log synchronisations: rises with every pass.
    pub(crate) number: u64,
    /// Guest memory to be sent in the pass, in bytes.
    pub(crate) remaining: u64,
    /// Guest memory sent a second, in bytes.
    pub(crate) rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Go on copying.
    Copy,
    /// Stop the VM now.
    Stop,
    /// The guest dirties memory faster than it can be sent.
    GiveUp,
}

pub(crate) struct Policy {
    budget: Duration,
    last: Option<Pass>,
    /// Passes in a row that did not shrink.
    stalled: u32,
}

/// Less than this is not worth another pass.
const QUICK: Duration = Duration::from_millis(25);
/// Device state and the claim take their share of the budget.
const RESERVED: Duration = Duration::from_millis(50);
/// Without progress for so many passes, none is expected.
const HOPELESS: u32 = 20;

impl Policy {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, last: None, stalled: 0 }
    }

    /// Advice for `pass`; a pass already judged is copied on.
    pub(crate) fn advise(&mut self, pass: Pass) -> Advice {
        // The first pass holds all of memory and says nothing about dirtying.
        if pass.number < 2 || self.last.is_some_and(|last| last.number >= pass.number) {
            return Advice::Copy;
        }
        let left = time_for(pass.remaining, pass.rate);
        let shrinking =
            self.last.is_none_or(|last| pass.remaining.saturating_mul(5) < last.remaining * 4);
        self.stalled = if shrinking { 0 } else { self.stalled + 1 };
        self.last = Some(pass);
        if left <= QUICK {
            Advice::Stop
        } else if shrinking {
            Advice::Copy
        } else if left <= self.budget.saturating_sub(RESERVED) {
            Advice::Stop
        } else if self.stalled >= HOPELESS {
            Advice::GiveUp
        } else {
            Advice::Copy
        }
    }

    /// The store did not answer in time: judge the next pass afresh.
    pub(crate) fn again(&mut self) {
        if let Some(last) = &mut self.last {
            last.remaining = u64::MAX / 8;
        }
    }
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    if bytes == 0 {
        return Duration::ZERO;
    }
    if rate == 0 {
        return Duration::MAX;
    }
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(budget_ms: u64, rate: u64, passes: &[u64]) -> Vec<Advice> {
        let mut policy = Policy::new(Duration::from_millis(budget_ms));
        let pass = |(i, &remaining): (usize, &u64)| Pass { number: i as u64 + 1, remaining, rate };
        passes.iter().enumerate().map(|p| policy.advise(pass(p))).collect()
    }

    #[test]
    fn passes_are_copied_while_they_shrink() {
        use Advice::{Copy, GiveUp, Stop};
        let mib = 1 << 20;
        // 100 MiB/s: 25 ms are 2.5 MiB, 250 ms are 25 MiB.
        let rate = 100 * mib;
        assert_eq!(run(300, rate, &[1024 * mib, 0]), [Copy, Stop]);
        assert_eq!(
            run(300, rate, &[1024 * mib, 60 * mib, 20 * mib, mib]),
            [Copy, Copy, Copy, Stop]
        );
        assert_eq!(
            run(300, rate, &[1024 * mib, 22 * mib, 21 * mib]),
            [Copy, Copy, Stop],
            "steady, and it fits"
        );
        assert!(!run(300, rate, &[90 * mib; 15]).contains(&Stop), "does not fit");
        assert_eq!(run(300, rate, &[90 * mib; 40]).last(), Some(&GiveUp));
        assert_eq!(run(300, 0, &[mib, mib, mib]), [Copy, Copy, Copy], "no rate known, no promise");
    }

    #[test]
    fn a_pass_is_judged_once() {
        let mut policy = Policy::new(Duration::from_millis(300));
        let pass = Pass { number: 2, remaining: 0, rate: 1 };
        assert_eq!(policy.advise(pass), Advice::Stop);
        assert_eq!(policy.advise(pass), Advice::Copy);
        policy.again();
        assert_eq!(policy.advise(Pass { number: 3, ..pass }), Advice::Stop);
    }
}
