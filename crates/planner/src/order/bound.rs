//! A time that no order can undercut.

use types::Rate;

use super::Problem;
use super::schedule::{Tick, ticks};

/// The longest of: each move at its fastest; on each link, the least work of all
/// that crosses it, done without a gap.
pub(super) fn makespan(problem: &Problem) -> Tick {
    let mut work = vec![0u128; problem.links.len()];
    let mut longest = 0;
    for m in &problem.moves {
        let fits = |rate: Rate| problem.path(m.from, m.to).all(|l| rate <= problem.links[l].rate);
        let paces = || m.paces.iter().filter(|p| fits(p.rate));
        let time = paces().map(|p| ticks(p.time)).min().unwrap_or(0);
        longest = longest.max(time);
        let least =
            paces().map(|p| u128::from(ticks(p.time)) * u128::from(p.rate.0)).min().unwrap_or(0);
        for link in problem.path(m.from, m.to) {
            work[link] += least;
        }
    }
    let links =
        problem.links.iter().zip(work).map(|(l, w)| w.div_ceil(u128::from(l.rate.0.max(1))));
    Tick::try_from(links.max().unwrap_or(0)).unwrap_or(Tick::MAX).max(longest)
}
