//! What each step waits for, so that a plan can be carried out whatever time its
//! steps really take.
//!
//! In the order of their starts, steps take from their accounts; whenever a balance
//! would fall below zero, the ends that the schedule had seen by then are credited,
//! the earliest first. A step waits for all that has been credited to its accounts
//! so far. So, whichever steps have started, everything that the latest of them
//! relies on has ended, and no balance is ever below zero.

use std::time::Duration;

use super::accounts::{Accounts, Entries};
use super::schedule::{Run, Schedule};
use super::{Problem, Step};

/// What an account has seen so far.
#[derive(Default)]
struct Account {
    balance: i64,
    /// Who gives back how much, by the end.
    gives: Vec<(usize, i64)>,
    /// How many of `gives` have been credited.
    credited: usize,
}

pub(super) fn steps(problem: &Problem, schedule: &Schedule) -> Vec<Step> {
    let accounts = Accounts::of(problem);
    let runs = &schedule.runs;
    let mut ledger: Vec<Account> =
        accounts.balance.iter().map(|b| Account { balance: *b, ..Account::default() }).collect();
    let mut by_end: Vec<usize> = (0..runs.len()).collect();
    by_end.sort_by_key(|i| (runs[*i].end, *i));
    for i in by_end {
        for (place, amount) in gives(problem, &accounts, &runs[i]) {
            ledger[place].gives.push((i, amount));
        }
    }
    let mut steps: Vec<Step> = Vec::with_capacity(runs.len());
    let mut before: Vec<Vec<u64>> = Vec::with_capacity(runs.len());
    for run in runs {
        let mut after = own_order(problem, runs, run, steps.len());
        for (place, amount) in takes(problem, &accounts, run) {
            let account = &mut ledger[place];
            account.balance -= amount;
            while account.balance < 0 && account.credited < account.gives.len() {
                account.balance += account.gives[account.credited].1;
                account.credited += 1;
            }
            after.extend(account.gives[..account.credited].iter().map(|(i, _)| *i));
        }
        let (after, all) = reduced(after, &before);
        before.push(all);
        steps.push(Step {
            of: run.of,
            from: run.from,
            to: run.to,
            start: Duration::from_micros(run.start),
            end: Duration::from_micros(run.end),
            rate: run.rate,
            wave: after.iter().map(|a| steps[*a].wave + 1).max().unwrap_or(0),
            after,
        });
    }
    steps
}

fn takes(problem: &Problem, accounts: &Accounts, run: &Run) -> Entries {
    let mut entries = accounts.held(problem, run.from, run.to, run.rate);
    entries.extend(accounts.room_taken(&problem.moves[run.of].needs, run.to));
    entries
}

fn gives(problem: &Problem, accounts: &Accounts, run: &Run) -> Entries {
    let mut entries = accounts.held(problem, run.from, run.to, run.rate);
    entries.extend(accounts.room_taken(&problem.moves[run.of].needs, run.from));
    entries
}

/// The VM's own earlier step, and the last steps of what it has to come after.
fn own_order(problem: &Problem, runs: &[Run], run: &Run, at: usize) -> Vec<usize> {
    let waits = &problem.moves[run.of].after;
    let earlier = (0..at).filter(|i| runs[*i].of == run.of || waits.contains(&runs[*i].of));
    earlier.collect()
}

/// Without those that others of them wait for anyway; and, as bits, all that the
/// step comes after.
fn reduced(mut after: Vec<usize>, before: &[Vec<u64>]) -> (Vec<usize>, Vec<u64>) {
    after.sort_unstable();
    after.dedup();
    let mut implied = vec![0u64; before.len() / 64 + 1];
    for a in &after {
        before[*a].iter().enumerate().for_each(|(i, word)| implied[i] |= word);
    }
    let mut all = implied.clone();
    after.iter().for_each(|a| all[a / 64] |= 1 << (a % 64));
    after.retain(|a| implied[a / 64] & (1 << (a % 64)) == 0);
    (after, all)
}
