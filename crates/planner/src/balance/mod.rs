//! Balance: few moves that make the hosts' loads alike, and VMs off hosts that take
//! none.
//!
//! The score is a weighted sum of standard deviations, one for each *measure* (share
//! of memory used, VMs, processors promised, predicted load …) over the hosts that
//! take VMs, plus a weight for each VM on a host that takes none. It falls by
//! *steepest descent*: each step is the move that lowers it most. Then chosen moves
//! are *exchanged*: one is taken back and the best other one made, as long as that
//! helps; so a fixed number of moves reaches a score that step by step is missed.

mod descent;
mod exchange;
mod state;

pub use state::{Host, Problem, Vm};

use state::State;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Moves at most.
    pub moves: usize,
    /// A move that lowers the score by less than this is not worth it.
    pub least_gain: f64,
    /// Hosts looked at on each side of a move: the most loaded and the least loaded.
    pub breadth: usize,
    /// Moves evaluated in exchanging, at most.
    pub exchanges: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { moves: usize::MAX, least_gain: 1e-6, breadth: 128, exchanges: 4_000_000 }
    }
}

/// A VM that changes its host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// Which VM.
    pub vm: usize,
    /// The host it leaves.
    pub from: usize,
    /// The host it goes to.
    pub to: usize,
    /// The score once this and the moves before it are made.
    pub score: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Balanced {
    /// The score before.
    pub before: f64,
    /// The score after all moves.
    pub after: f64,
    /// The moves, the most useful first; each VM once. Their order as migrations is
    /// [`crate::order`]'s.
    pub moves: Vec<Move>,
    /// Moves evaluated.
    pub evaluated: u64,
}

/// Finds moves. The same problem and limits always give the same moves.
#[must_use]
pub fn balance(problem: &Problem, limits: &Limits) -> Balanced {
    let mut state = State::new(problem);
    let before = state.score();
    descent::descend(&mut state, limits, |_| true);
    exchange::exchange(&mut state, limits);
    let evaluated = state.evaluated;
    let moves = in_order(problem, &state);
    let after = moves.last().map_or(before, |m| m.score);
    Balanced { before, after, moves, evaluated }
}

/// Only moves VMs off hosts that take none, each to where the score is lowest.
#[must_use]
pub fn evacuate(problem: &Problem, limits: &Limits) -> Balanced {
    let mut state = State::new(problem);
    let before = state.score();
    descent::descend(&mut state, limits, |from| !problem.hosts[from].open);
    let evaluated = state.evaluated;
    let moves = in_order(problem, &state);
    let after = moves.last().map_or(before, |m| m.score);
    Balanced { before, after, moves, evaluated }
}

/// The moves that lead from the problem to the state, the most useful first.
fn in_order(problem: &Problem, end: &State<'_>) -> Vec<Move> {
    let mut left: Vec<usize> = end.displaced().collect();
    let mut state = State::new(problem);
    let mut moves = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let scores = left.iter().map(|vm| state.score_after(*vm, end.at(*vm)));
        let best = scores.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((place, score)) = best else { break };
        let vm = left.remove(place);
        let (from, to) = (state.at(vm), end.at(vm));
        state.shift(vm, to);
        moves.push(Move { vm, from, to, score });
    }
    moves
}

#[cfg(test)]
mod tests;
