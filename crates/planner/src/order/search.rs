//! Searching for a list whose schedule is short.

use std::collections::BTreeSet;

use super::schedule::{List, Ready, Schedule, Tick};
use super::{Impossible, Problem};
use crate::chance::Chance;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Schedules that are made, at most; the first ten come from simple rules,
    /// whatever is said here.
    pub schedules: u64,
    /// Starts of moves that are tried in all of them, at most: what bounds the time
    /// where there are many moves.
    pub starts: u64,
    /// What chance begins with.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { schedules: 2000, starts: 5_000_000, seed: 1 }
    }
}

/// Non-improving neighbours in a row before the list is shaken.
const PATIENCE: u32 = 400;

/// Ends of the tiers in turn, then the sum of all ends.
type Cost = Vec<Tick>;

/// The best schedule found, and how many were looked at.
pub(super) fn best(
    problem: &Problem,
    effort: &Effort,
    bound: Tick,
) -> Result<(Schedule, u64), Impossible> {
    if problem.moves.is_empty() {
        return Ok((Schedule::default(), 0));
    }
    let tiers: BTreeSet<u32> = problem.moves.iter().map(|m| m.tier).collect();
    let mut search = Search {
        ready: Ready::new(problem),
        problem,
        tiers: tiers.into_iter().collect(),
        chance: Chance::new(effort.seed),
        looked_at: 0,
        starts: 0,
    };
    search.run(effort, bound)
}

struct Search<'a> {
    ready: Ready<'a>,
    problem: &'a Problem,
    tiers: Vec<u32>,
    chance: Chance,
    looked_at: u64,
    starts: u64,
}

impl Search<'_> {
    fn run(&mut self, effort: &Effort, bound: Tick) -> Result<(Schedule, u64), Impossible> {
        let mut best: Option<(Cost, Schedule, List)> = None;
        let mut reason = None;
        for list in self.rules() {
            match self.look(&list, Tick::MAX) {
                Ok(Some((cost, schedule))) => {
                    if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                        best = Some((cost, schedule, list));
                    }
                }
                Ok(None) => {}
                Err(e) => reason = Some(e),
            }
        }
        let mut current = match (&best, self.rules().pop()) {
            (Some((cost, _, list)), _) => (cost.clone(), list.clone()),
            (None, Some(list)) => (vec![Tick::MAX], list),
            (None, None) => return Err(Impossible::NoRoom(Vec::new())),
        };
        let mut idle = 0;
        while self.looked_at < effort.schedules
            && self.starts < effort.starts
            && !best.as_ref().is_some_and(|b| self.is_over(&b.1, bound))
        {
            let mut list = current.1.clone();
            let shaken = idle > PATIENCE;
            if shaken {
                list = best.as_ref().map_or(list, |b| b.2.clone());
            }
            for _ in 0..if shaken { 4 } else { 1 } {
                self.change(&mut list);
            }
            let limit = if self.tiers.len() == 1 && !shaken { current.0[0] } else { Tick::MAX };
            let found = match self.look(&list, limit) {
                Ok(found) => found,
                Err(e) => {
                    reason = Some(e);
                    None
                }
            };
            idle = if shaken { 0 } else { idle + 1 };
            let Some((cost, schedule)) = found else { continue };
            if cost <= current.0 || shaken {
                idle = if cost < current.0 { 0 } else { idle };
                if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                    best = Some((cost.clone(), schedule, list.clone()));
                }
                current = (cost, list);
            }
        }
        match (best, reason) {
            (Some((_, schedule, _)), _) => Ok((schedule, self.looked_at)),
            (None, Some(reason)) => Err(reason),
            (None, None) => Err(Impossible::NoRoom(Vec::new())),
        }
    }

    /// No other list can be better.
    fn is_over(&self, schedule: &Schedule, bound: Tick) -> bool {
        self.tiers.len() == 1 && schedule.makespan() <= bound
    }

    fn look(&mut self, list: &List, limit: Tick) -> Result<Option<(Cost, Schedule)>, Impossible> {
        self.looked_at += 1;
        let found = self.ready.run(list, limit, &mut self.starts)?;
        Ok(found.map(|schedule| (self.cost(&schedule), schedule)))
    }

    fn cost(&self, schedule: &Schedule) -> Cost {
        let mut cost = vec![0; self.tiers.len() + 1];
        for run in &schedule.runs {
            let tier = self.problem.moves[run.of].tier;
            let place = self.tiers.binary_search(&tier).unwrap_or(0);
            cost[place] = cost[place].max(run.end);
            cost[self.tiers.len()] += run.end;
        }
        cost
    }

    /// Lists by simple rules: as given; longest first; shortest first; busiest link
    /// first; what frees the most wanted room first.
    fn rules(&self) -> Vec<List> {
        let moves = &self.problem.moves;
        let time = |of: usize| moves[of].paces.iter().map(|p| p.time).min().unwrap_or_default();
        let mut busy = vec![std::time::Duration::ZERO; self.problem.links.len()];
        for (of, m) in moves.iter().enumerate() {
            self.problem.path(m.from, m.to).for_each(|l| busy[l] += time(of));
        }
        let busiest =
            |of: usize| self.problem.path(moves[of].from, moves[of].to).map(|l| busy[l]).max();
        let mut wanted = vec![0; self.problem.hosts.len()];
        moves.iter().for_each(|m| wanted[m.to] += m.needs.iter().sum::<i64>());
        let mut orders: Vec<Vec<usize>> = Vec::new();
        let mut order = |key: &dyn Fn(usize) -> (u128, u128)| {
            let mut order: Vec<usize> = (0..moves.len()).collect();
            order.sort_by_key(|of| (moves[*of].tier, key(*of), *of));
            orders.push(order);
        };
        let micros = |of: usize| time(of).as_micros();
        order(&|_| (0, 0));
        order(&|of| (u128::MAX - micros(of), 0));
        order(&|of| (micros(of), 0));
        let load = |of: usize| busiest(of).unwrap_or_default().as_micros();
        order(&|of| (u128::MAX - load(of), u128::MAX - micros(of)));
        order(&|of| (u128::from(u64::MAX.abs_diff(wanted[moves[of].from] as u64)), micros(of)));
        let list = |order: Vec<usize>, patience: usize| List {
            order,
            patience: moves.iter().map(|m| patience.min(m.paces.len())).collect(),
            holds: vec![false; moves.len()],
        };
        let both = orders.into_iter().flat_map(|o| [list(o.clone(), 0), list(o, usize::MAX)]);
        both.collect()
    }

    /// A neighbour: two moves change places, one goes elsewhere, or one waits
    /// differently.
    fn change(&mut self, list: &mut List) {
        let n = list.order.len();
        let (a, b) = (self.chance.below(n), self.chance.below(n));
        match self.chance.below(8) {
            0..3 => list.order.swap(a, b),
            3..6 => {
                let of = list.order.remove(a);
                list.order.insert(b, of);
            }
            6 => {
                let paces = self.problem.moves[a].paces.len();
                list.patience[a] = self.chance.below(paces.max(1));
            }
            _ => list.holds[a] = !list.holds[a],
        }
    }
}
