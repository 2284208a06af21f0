//! The order of the moves: from an assignment to waves.
//!
//! Everything that is limited is an *account* with a balance: each resource of each
//! host, the rate and the number of transfers of each link, the moves of a host and
//! of the fleet at once. A move takes from its accounts when it starts and gives
//! back when it ends: room at its destination is taken first, room at its source
//! is given last, so that capacity frees only as VMs leave. A *list schedule*
//! ([`schedule`]) starts moves in the order of a list as soon as their accounts
//! allow; a search over such lists ([`search`]) makes the whole short. Where moves
//! wait for each other in a circle, one of them goes by way of a third host.

mod accounts;
mod bound;
mod problem;
mod schedule;
mod search;
mod waves;

use std::time::Duration;

use types::Rate;

pub use problem::{Host, Impossible, Link, Move, Pace, Problem, Short};
pub use search::Effort;

/// One migration of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which of the problem's moves.
    pub of: usize,
    /// The host it leaves.
    pub from: usize,
    /// Where it goes: the move's destination, or a host on the way.
    pub to: usize,
    /// When it starts, from the plan's beginning.
    pub start: Duration,
    /// When it is forecast to end.
    pub end: Duration,
    /// The rate it may use.
    pub rate: Rate,
    /// Steps that must have ended before it starts, whatever time they took: then
    /// no host and no link is ever overfull.
    pub after: Vec<usize>,
    /// One more than the latest wave of `after`; 0 starts at once.
    pub wave: usize,
}

/// An order of the moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By start, then by move.
    pub steps: Vec<Step>,
    /// When the last one ends.
    pub makespan: Duration,
    /// No order can end earlier.
    pub bound: Duration,
    /// How many schedules were looked at.
    pub evaluated: u64,
}

/// Finds an order: the tiers one after the other as early as possible, the last end
/// as early as possible. The same problem and effort always give the same plan.
///
/// # Errors
/// No order exists, or none was found; the text for people is in [`Impossible`].
pub fn plan(problem: &Problem, effort: &Effort) -> Result<Plan, Impossible> {
    problem.check()?;
    let bound = bound::makespan(problem);
    let (schedule, evaluated) = search::best(problem, effort, bound)?;
    Ok(Plan {
        makespan: Duration::from_micros(schedule.makespan()),
        bound: Duration::from_micros(bound),
        steps: waves::steps(problem, &schedule),
        evaluated,
    })
}

#[cfg(test)]
mod tests;
