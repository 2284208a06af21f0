//! Which cell comes next: the one that was hit least, among equals as the seed says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};

use super::cells::{self, Cell};
use super::report::Run;

/// Tries of a cell that was never hit, after which it waits until the others have
/// had as many.
const PATIENCE: u64 = 3;

/// One run to be made.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) number: u64,
    pub(super) cell: Cell,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    hits: u64,
    tries: u64,
}

/// Shared by all labs.
#[derive(Debug)]
pub(super) struct Tally {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counts: BTreeMap<Cell, Count>,
    chance: u64,
    left: u64,
    number: u64,
    /// Turns that nobody was hit in, after which it is given up.
    misses: u64,
    over: bool,
}

impl Tally {
    /// `count` runs, those of `before` among them.
    ///
    /// # Errors
    /// No cell is called so.
    pub(super) fn new(seed: u64, only: Option<&str>, count: u64, before: &[Run]) -> Result<Self> {
        let wanted = |cell: &Cell| only.is_none_or(|part| cell.to_string().contains(part));
        let mut counts: BTreeMap<Cell, Count> =
            cells::all().into_iter().filter(wanted).map(|cell| (cell, Count::default())).collect();
        ensure!(
            !counts.is_empty(),
            "no cell's name contains {:?}; see --cells",
            only.unwrap_or("")
        );
        let names: BTreeMap<String, Cell> = counts.keys().map(|c| (c.to_string(), *c)).collect();
        for run in before {
            if let Some(count) = names.get(&run.cell).and_then(|cell| counts.get_mut(cell)) {
                count.tries += 1;
                count.hits += u64::from(run.struck);
            }
        }
        let struck = before.iter().filter(|run| run.struck).count() as u64;
        let state = State {
            counts,
            chance: seed.wrapping_add(before.len() as u64) ^ 0x9e37_79b9_7f4a_7c15,
            left: count.saturating_sub(struck),
            number: before.len() as u64,
            misses: 10 * count + 100,
            over: false,
        };
        Ok(Self { state: Mutex::new(state) })
    }

    /// The next run; none when enough were made.
    pub(super) fn next(&self) -> Option<Turn> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.checked_sub(1)?;
        state.number += 1;
        let rank = |count: &Count| {
            (count.hits + count.tries.saturating_sub(count.hits) / PATIENCE, count.tries)
        };
        let least = state.counts.values().map(rank).min()?;
        let candidates: Vec<Cell> = state
            .counts
            .iter()
            .filter(|(_, count)| rank(count) == least)
            .map(|(cell, _)| *cell)
            .collect();
        let chosen = random(&mut state.chance) as usize % candidates.len();
        let cell = candidates.get(chosen).copied()?;
        // Another lab chooses another one meanwhile.
        state.counts.entry(cell).or_default().tries += 1;
        Some(Turn { number: state.number, cell })
    }

    /// A run has ended; one that was not struck is made up for.
    pub(super) fn ended(&self, turn: &Turn, struck: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if struck {
            state.counts.entry(turn.cell).or_default().hits += 1;
        } else if state.misses > 0 && !state.over {
            state.misses -= 1;
            state.left += 1;
        }
    }

    /// Whether it was given up.
    pub(super) fn over(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).over
    }

    /// No further runs.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.left, state.over) = (0, true);
    }
}

/// xorshift64*: <https://doi.org/10.18637/jss.v008.i14>, with the multiplier of
/// Vigna 2016.
fn random(state: &mut u64) -> u64 {
    let mut x = (*state).max(1);
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_turn_before_any_has_two() {
        let cells = cells::all().len() as u64;
        let tally = Tally::new(7, None, 2 * cells, &[]).unwrap();
        let mut seen = BTreeMap::<Cell, u64>::new();
        while let Some(turn) = tally.next() {
            *seen.entry(turn.cell).or_default() += 1;
            tally.ended(&turn, true);
        }
        assert_eq!(seen.len() as u64, cells);
        assert!(seen.values().all(|n| *n == 2), "{seen:?}");
    }

    #[test]
    fn a_seed_gives_an_order() {
        let order = |seed| {
            let tally = Tally::new(seed, None, 9, &[]).unwrap();
            std::iter::from_fn(|| tally.next()).map(|turn| turn.cell).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert!(Tally::new(1, Some("no such cell"), 1, &[]).is_err());
    }
}
