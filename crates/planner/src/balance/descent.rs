//! Steepest descent.

use super::Limits;
use super::state::State;

/// A move that could be made, and the score after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) vm: usize,
    pub(super) to: usize,
    pub(super) score: f64,
}

/// Makes the best move again and again, as long as it is worth it.
pub(super) fn descend(state: &mut State<'_>, limits: &Limits, leaves: impl Fn(usize) -> bool) {
    // A VM that is moved a second time costs no further move; yet some end is needed.
    let most = state.problem.vms.len().saturating_mul(2).min(limits.moves.saturating_mul(2));
    for _ in 0..most {
        let Some(best) = best(state, limits, &leaves) else { return };
        if state.score() - best.score < limits.least_gain {
            return;
        }
        state.shift(best.vm, best.to);
    }
}

/// The best move from the most loaded hosts to the least loaded ones.
pub(super) fn best(
    state: &mut State<'_>,
    limits: &Limits,
    leaves: impl Fn(usize) -> bool,
) -> Option<Candidate> {
    let problem = state.problem;
    let mut hosts: Vec<(f64, usize)> = (0..problem.hosts.len())
        .map(|h| {
            let loads = problem.weights.iter().enumerate();
            (loads.map(|(m, weight)| weight * state.level(m, h)).sum(), h)
        })
        .collect();
    hosts.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let to: Vec<usize> = {
        let open = hosts.iter().map(|(_, h)| *h).filter(|h| problem.hosts[*h].open);
        open.take(limits.breadth).collect()
    };
    // Hosts that must be left come first, then the most loaded.
    hosts.sort_by(|a, b| {
        let closed = |h: usize| !problem.hosts[h].open;
        closed(b.1).cmp(&closed(a.1)).then(b.0.total_cmp(&a.0)).then(a.1.cmp(&b.1))
    });
    let mut rank = vec![usize::MAX; problem.hosts.len()];
    let from = hosts.iter().map(|(_, h)| *h).filter(|h| leaves(*h));
    from.take(limits.breadth).enumerate().for_each(|(i, h)| rank[h] = i);
    let room = state.away() < limits.moves;
    let mut found: Option<Candidate> = None;
    for vm in representatives(state, &rank, room) {
        for &to in &to {
            if to == state.at(vm) || !state.fits(vm, to) {
                continue;
            }
            state.evaluated += 1;
            let score = state.score_after(vm, to);
            if found.is_none_or(|f| score < f.score) {
                found = Some(Candidate { vm, to, score });
            }
        }
    }
    found
}

/// The VMs that may leave, of those on one host that are alike only the first.
/// Without `room` for another move, only those that have been moved already.
fn representatives(state: &State<'_>, rank: &[usize], room: bool) -> Vec<usize> {
    let vms = &state.problem.vms;
    let may = |vm: &usize| {
        vms[*vm].movable && rank[state.at(*vm)] != usize::MAX && (room || state.is_away(*vm))
    };
    let mut found: Vec<usize> = (0..vms.len()).filter(may).collect();
    let alike = |a: usize, b: usize| {
        let (x, y) = (&vms[a], &vms[b]);
        state.at(a) == state.at(b)
            && (&x.needs, &x.load, &x.barred) == (&y.needs, &y.load, &y.barred)
            && state.is_away(a) == state.is_away(b)
            && (!state.is_away(a) || x.host == y.host)
    };
    found.sort_by(|a, b| {
        let (x, y) = (&vms[*a], &vms[*b]);
        let loads = || x.load.iter().zip(&y.load).map(|(x, y)| x.total_cmp(y));
        let by_load = loads().find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal);
        rank[state.at(*a)]
            .cmp(&rank[state.at(*b)])
            .then(x.needs.cmp(&y.needs))
            .then(by_load)
            .then(a.cmp(b))
    });
    found.dedup_by(|b, a| alike(*a, *b));
    found
}
