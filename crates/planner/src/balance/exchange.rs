//! Exchanging chosen moves for better ones.

use super::Limits;
use super::descent::best;
use super::state::State;

/// Takes back one move after the other and makes the best one in its place, as long
/// as that lowers the score and the budget lasts.
pub(super) fn exchange(state: &mut State<'_>, limits: &Limits) {
    let end = state.evaluated.saturating_add(limits.exchanges);
    let mut improved = true;
    while improved && state.evaluated < end {
        improved = false;
        let displaced: Vec<usize> = state.displaced().collect();
        for vm in displaced {
            if state.evaluated >= end {
                return;
            }
            improved |= retry(state, limits, vm);
        }
    }
}

/// Sends one VM home and makes the best move instead.
fn retry(state: &mut State<'_>, limits: &Limits, vm: usize) -> bool {
    let (home, away) = (state.problem.vms[vm].host, state.at(vm));
    if away == home || !state.fits(vm, home) {
        return false;
    }
    let before = state.score();
    state.shift(vm, home);
    match best(state, limits, |_| true) {
        Some(other) if before - other.score >= limits.least_gain => {
            state.shift(other.vm, other.to);
            true
        }
        _ => {
            state.shift(vm, away);
            false
        }
    }
}
