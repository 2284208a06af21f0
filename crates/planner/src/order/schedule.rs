//! List scheduling: what comes of a list of moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use types::Rate;

use super::accounts::{Accounts, Entries};
use super::{Impossible, Problem, Short};

/// Microseconds from the plan's beginning.
pub(super) type Tick = u64;

/// A time as ticks, rounded up.
pub(super) fn ticks(time: Duration) -> Tick {
    Tick::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(Tick::MAX / 4)
}

/// What a list schedule is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    /// Moves, the most urgent first.
    pub(super) order: Vec<usize>,
    /// By move: the slowest of its paces at which it starts.
    pub(super) patience: Vec<usize>,
    /// By move: while it waits for a link or for room, nothing behind it in the
    /// list may take from them.
    pub(super) holds: Vec<bool>,
}

/// A transfer that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) of: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) rate: Rate,
    pub(super) start: Tick,
    pub(super) end: Tick,
}

/// All transfers of a plan, by start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) runs: Vec<Run>,
}

impl Schedule {
    pub(super) fn makespan(&self) -> Tick {
        self.runs.iter().map(|r| r.end).max().unwrap_or(0)
    }
}

/// One way from a host to another, with all that it takes.
#[derive(Debug, Clone)]
struct Leg {
    from: usize,
    to: usize,
    room: Entries,
    freed: Entries,
    /// By pace.
    paces: Vec<(Tick, Rate, Entries)>,
}

/// A problem made ready for many lists.
pub(super) struct Ready<'a> {
    problem: &'a Problem,
    accounts: Accounts,
    legs: Vec<Arc<Leg>>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let accounts = Accounts::of(problem);
        let moves = problem.moves.iter().enumerate();
        let legs = moves.map(|(i, m)| Arc::new(leg(problem, &accounts, i, m.from, m.to))).collect();
        Self { problem, accounts, legs }
    }

    /// What comes of a list; ended early, with `None`, where it lasts beyond `limit`.
    /// `starts` counts the starts that are tried.
    ///
    /// # Errors
    /// Moves are left that have no room.
    pub(super) fn run(
        &self,
        list: &List,
        limit: Tick,
        starts: &mut u64,
    ) -> Result<Option<Schedule>, Impossible> {
        let mut play = Play {
            ready: self,
            list,
            accounts: self.accounts.clone(),
            legs: self.legs.clone(),
            held_back: vec![0; self.accounts.balance.len()],
            scans: 0,
            now: 0,
            waiting: list.order.clone(),
            done: vec![false; self.legs.len()],
            turned: vec![false; self.legs.len()],
            running: BinaryHeap::new(),
            schedule: Schedule::default(),
        };
        loop {
            *starts += play.waiting.len() as u64;
            play.start_all();
            if play.now > limit {
                return Ok(None);
            }
            if !play.end_next() {
                if play.waiting.is_empty() {
                    return Ok(Some(play.schedule));
                }
                play.turn_aside()?;
            }
        }
    }
}

fn leg(p: &Problem, accounts: &Accounts, of: usize, from: usize, to: usize) -> Leg {
    let m = &p.moves[of];
    let fits = |rate: Rate| p.path(from, to).all(|l| rate <= p.links[l].rate);
    let paces = m
        .paces
        .iter()
        .filter(|pace| fits(pace.rate))
        .map(|pace| (ticks(pace.time), pace.rate, accounts.held(p, from, to, pace.rate)));
    Leg {
        from,
        to,
        room: accounts.room_taken(&m.needs, to),
        freed: accounts.room_taken(&m.needs, from),
        paces: paces.collect(),
    }
}

/// How good it is to step aside, least first: lets nobody go, time, little room
/// left; then the move and the host.
type Aside = (bool, Tick, Reverse<i64>, usize, usize);

/// A list being played.
struct Play<'a> {
    ready: &'a Ready<'a>,
    list: &'a List,
    accounts: Accounts,
    /// By move: its next way.
    legs: Vec<Arc<Leg>>,
    /// By account: the scan in which somebody held it back.
    held_back: Vec<u32>,
    scans: u32,
    now: Tick,
    /// Moves in the list's order.
    waiting: Vec<usize>,
    done: Vec<bool>,
    /// By move: it has been sent by way of a third host.
    turned: Vec<bool>,
    running: BinaryHeap<Reverse<(Tick, usize)>>,
    schedule: Schedule,
}

impl Play<'_> {
    /// Starts all that can start now, in the list's order.
    fn start_all(&mut self) {
        self.scans += 1;
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().filter(|of| !self.start(*of)).collect();
    }

    fn start(&mut self, of: usize) -> bool {
        if self.ready.problem.moves[of].after.iter().any(|a| !self.done[*a]) {
            return false;
        }
        let leg = &self.legs[of];
        let free = |entries: &Entries| {
            self.accounts.covers(entries)
                && entries.iter().all(|(place, _)| self.held_back[*place] != self.scans)
        };
        let patience = self.list.patience[of];
        let pace = free(&leg.room)
            .then(|| leg.paces.iter().take(patience + 1).position(|(.., held)| free(held)))
            .flatten();
        let Some(pace) = pace else {
            if self.list.holds[of] {
                let held = leg.paces.first().into_iter().flat_map(|(.., held)| held);
                leg.room.iter().chain(held).for_each(|(place, _)| {
                    self.held_back[*place] = self.scans;
                });
            }
            return false;
        };
        let (time, rate, held) = &leg.paces[pace];
        self.accounts.take(&leg.room);
        self.accounts.take(held);
        let end = self.now.saturating_add(*time);
        self.running.push(Reverse((end, self.schedule.runs.len())));
        let (from, to, rate, start) = (leg.from, leg.to, *rate, self.now);
        self.schedule.runs.push(Run { of, from, to, rate, start, end });
        true
    }

    /// Goes on to the next end; `false` if nothing runs.
    fn end_next(&mut self) -> bool {
        let Some(Reverse((end, _))) = self.running.peek().copied() else { return false };
        self.now = end;
        while let Some(Reverse((at, run))) = self.running.peek().copied() {
            if at > end {
                break;
            }
            self.running.pop();
            self.end(run);
        }
        true
    }

    fn end(&mut self, run: usize) {
        let run = &self.schedule.runs[run];
        let (of, to) = (run.of, run.to);
        let leg = &self.legs[of];
        if let Some((.., held)) = leg.paces.iter().find(|(_, rate, _)| *rate == run.rate) {
            self.accounts.give(held);
        }
        self.accounts.give(&leg.freed);
        let goal = self.ready.problem.moves[of].to;
        if to == goal {
            self.done[of] = true;
            return;
        }
        // It has stepped aside; from here it goes on as soon as there is room.
        self.legs[of] = Arc::new(leg_from(self.ready, of, to, goal));
        let place = |m: &usize| self.list.order.iter().position(|o| o == m);
        let own = place(&of);
        let at = self.waiting.iter().position(|m| place(m) > own).unwrap_or(self.waiting.len());
        self.waiting.insert(at, of);
    }

    /// Nothing runs and nothing can start: sends one move by way of a third host;
    /// rather one that lets another go, rather a quick one, rather to where more
    /// room is left.
    fn turn_aside(&mut self) -> Result<(), Impossible> {
        let mut best: Option<(Aside, Leg)> = None;
        for &of in self.waiting.iter().filter(|of| !self.turned[**of]) {
            let m = &self.ready.problem.moves[of];
            if m.after.iter().any(|a| !self.done[*a]) {
                continue;
            }
            let from = self.legs[of].from;
            for &via in m.via.iter().filter(|v| **v != from && **v != m.to) {
                let leg = leg_from(self.ready, of, from, via);
                let usable = !leg.paces.is_empty() && self.accounts.covers(&leg.room);
                let onward = || !leg_from(self.ready, of, via, m.to).paces.is_empty();
                if !usable || !onward() {
                    continue;
                }
                let left =
                    leg.room.iter().map(|(p, n)| self.accounts.balance[*p] - n).min().unwrap_or(0);
                let key = (!self.lets_go(&leg), leg.paces[0].0, Reverse(left), of, via);
                if best.as_ref().is_none_or(|(least, _)| key < *least) {
                    best = Some((key, leg));
                }
            }
        }
        let Some(((.., of, _), leg)) = best else { return Err(self.no_room()) };
        self.turned[of] = true;
        self.legs[of] = Arc::new(leg);
        Ok(())
    }

    /// Whether another move can go once this way has been taken.
    fn lets_go(&self, leg: &Leg) -> bool {
        let mut after = self.accounts.clone();
        after.take(&leg.room);
        after.give(&leg.freed);
        let others = self.waiting.iter().filter(|of| self.legs[**of].to == leg.from);
        others.into_iter().any(|of| after.covers(&self.legs[*of].room))
    }

    fn no_room(&self) -> Impossible {
        let short = |of: &usize| {
            let (m, leg) = (&self.ready.problem.moves[*of], &self.legs[*of]);
            let lack = m.needs.iter().enumerate().map(|(resource, needs)| {
                let free = self.accounts.balance[self.accounts.room(leg.to, resource)];
                (needs - free, resource)
            });
            let (missing, resource) = lack.max_by_key(|(lack, r)| (*lack, Reverse(*r)))?;
            (missing > 0).then_some(Short { of: *of, host: leg.to, resource, missing })
        };
        let mut left: Vec<Short> = self.waiting.iter().filter_map(short).collect();
        left.sort_by_key(|s| s.of);
        Impossible::NoRoom(left)
    }
}

fn leg_from(ready: &Ready<'_>, of: usize, from: usize, to: usize) -> Leg {
    leg(ready.problem, &ready.accounts, of, from, to)
}
