//! The search as a whole: a first answer, then rounds in which workers improve
//! disjoint parts of the hosts, with a join after each.

use super::anneal::Worker;
use super::core::Core;
use super::model::{GroupIndex, HostIndex, NOWHERE, VmIndex};
use super::repair::{best, repair};
use super::state::State;
use crate::chance::{Chance, power};

/// A piece of work that needs no other.
pub type Job<'j> = Box<dyn FnOnce() + Send + 'j>;

/// Who does the work of a round. The result is the same whoever does it, in whatever
/// order and however many at once.
pub trait Crew {
    /// Does all jobs, and returns when all are done.
    fn run(&self, jobs: Vec<Job<'_>>);
}

/// One after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Crew for Alone {
    fn run(&self, jobs: Vec<Job<'_>>) {
        jobs.into_iter().for_each(|job| job());
    }
}

/// What a result depends on beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where chance begins.
    pub seed: u64,
    /// Moves to try after the first answer.
    pub moves: u64,
    /// Parts that the hosts are dealt into, each with a worker of its own: as many as
    /// can be worked on at once. It shapes the result; the number of threads does not.
    pub workers: usize,
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// Where each VM goes; [`NOWHERE`] where there is no room for it.
    pub place: Vec<HostIndex>,
    /// What it costs.
    pub cost: i64,
    /// Moves that were tried.
    pub evaluated: u64,
}

/// Rounds in which a budget is spent, if it is large enough.
const ROUNDS: u64 = 400;
/// Moves for which a round is worth its join, for each worker.
const ROUND_MOVES: u64 = 5_000;

/// Moves that are tried at the very end.
const LAST_TRIES: usize = 4_000_000;

/// Finds the best assignment that the budget allows. `stop` is asked after each round
/// and ends the search early, with the best so far.
pub fn solve(
    core: &Core<'_>,
    options: &Options,
    crew: &dyn Crew,
    stop: &dyn Fn() -> bool,
) -> Solution {
    let mut search = Search::new(core, options.seed, options.workers);
    let workers = search.workers.len() as u64;
    let rounds = (options.moves / workers / ROUND_MOVES).clamp(1, ROUNDS);
    let moves = options.moves / workers / rounds;
    for round in 0..rounds {
        if moves == 0 || stop() {
            break;
        }
        search.round(crew, moves, round as f64 / (rounds - 1).max(1) as f64);
    }
    search.finish()
}

/// A search under way. It can be asked for its best result at any time.
pub struct Search<'a> {
    workers: Vec<Worker<'a>>,
    best: Vec<HostIndex>,
    best_cost: i64,
    rng: Chance,
    evaluated: u64,
    hot: f64,
    cold: f64,
}

impl<'a> Search<'a> {
    /// Begins with where the VMs are, and finds a first answer.
    pub fn new(core: &'a Core<'a>, seed: u64, workers: usize) -> Self {
        let mut rng = Chance::new(seed);
        let mut state = State::new(core, &core.origin);
        repair(&mut state);
        let (hot, cold) = temperatures(&state, &mut rng);
        let (best, best_cost) = (state.place.clone(), state.cost);
        let count = workers.clamp(1, (core.hosts / 2).max(1));
        let mut workers = Vec::with_capacity(count);
        for _ in 1..count {
            workers.push(Worker::new(state.clone(), rng.next()));
        }
        workers.push(Worker::new(state, rng.next()));
        Self { workers, best, best_cost, rng, evaluated: 0, hot, cold }
    }

    /// The best assignment so far.
    pub fn best(&self) -> &[HostIndex] {
        &self.best
    }

    /// Its cost.
    pub fn best_cost(&self) -> i64 {
        self.best_cost
    }

    /// Moves tried so far.
    pub fn evaluated(&self) -> u64 {
        self.evaluated
    }

    /// One round: each worker tries so many moves. `progress` is the share of the
    /// whole budget that is spent, 0 to 1: the later, the fewer moves that make the
    /// assignment worse are taken.
    pub fn round(&mut self, crew: &dyn Crew, moves: u64, progress: f64) {
        let temperature = self.hot * power(self.cold / self.hot, cooled(progress));
        self.deal();
        let jobs = self
            .workers
            .iter_mut()
            .map(|worker| -> Job<'_> { Box::new(move || worker.anneal(moves, temperature)) });
        crew.run(jobs.collect());
        self.evaluated += moves * self.workers.len() as u64;
        self.join();
        self.keep();
    }

    /// The best assignment, with what can be had for nothing added: VMs that gained
    /// nothing by moving stay, and those that had no place are tried again.
    pub fn finish(mut self) -> Solution {
        let state = &mut self.workers[0].state;
        for (vm, place) in self.best.iter().enumerate() {
            state.relocate(vm as VmIndex, *place);
        }
        for vm in 0..state.core.vms as VmIndex {
            let origin = state.core.origin[vm as usize];
            if origin == NOWHERE || origin == state.place[vm as usize] {
                continue;
            }
            if let Some(delta) = state.shift(vm, origin).filter(|delta| *delta <= 0) {
                state.shift_by(vm, origin, delta);
            }
        }
        repair(state);
        let mut tries = LAST_TRIES;
        for vm in 0..state.core.vms as VmIndex {
            let place = state.place[vm as usize];
            let moved = place != state.core.origin[vm as usize];
            if moved && tries < state.core.hosts {
                break;
            }
            tries -= if moved { state.core.hosts } else { 0 };
            if moved
                && let Some((delta, host)) = best(state, vm, place)
                && delta < 0
            {
                state.shift_by(vm, host, delta);
            }
        }
        self.keep();
        Solution { place: self.best, cost: self.best_cost, evaluated: self.evaluated }
    }

    fn keep(&mut self) {
        let state = &self.workers[0].state;
        if state.cost < self.best_cost {
            self.best_cost = state.cost;
            self.best.copy_from_slice(&state.place);
        }
    }

    /// Deals the hosts out, anew in each round.
    fn deal(&mut self) {
        let hosts = self.workers[0].state.core.hosts;
        let mut deck: Vec<HostIndex> = (0..hosts as HostIndex).collect();
        self.rng.shuffle(&mut deck);
        let count = self.workers.len();
        for (i, worker) in self.workers.iter_mut().enumerate() {
            let mut part = deck[hosts * i / count..hosts * (i + 1) / count].to_vec();
            part.sort_unstable();
            worker.take(&part);
        }
    }

    /// Brings all workers to one assignment. Parts share no host, so sums cannot
    /// conflict; where two workers together have broken a group's spread or need, the
    /// later one's round is undone.
    fn join(&mut self) {
        let changes: Vec<_> = self.workers.iter_mut().map(Worker::changes).collect();
        let (first, others) = self.workers.split_at_mut(1);
        let base = &mut first[0].state;
        for theirs in &changes[1..] {
            apply(base, theirs);
        }
        for (worker, theirs) in others.iter_mut().zip(&changes[1..]) {
            for (vm, _) in theirs.iter().chain(changes.iter().flatten()) {
                worker.state.relocate(*vm, base.place[*vm as usize]);
            }
        }
    }
}

/// Applies another worker's round, unless it would break more of a group than is
/// broken.
fn apply(base: &mut State<'_>, theirs: &[(VmIndex, HostIndex)]) {
    let core = base.core;
    let undo: Vec<_> = theirs.iter().map(|(vm, _)| (*vm, base.place[*vm as usize])).collect();
    let groups = theirs.iter().flat_map(|(vm, _)| core.groups.at(*vm)).copied();
    let mut groups: Vec<GroupIndex> = groups.collect();
    groups.sort_unstable();
    groups.dedup();
    let before: Vec<_> = groups.iter().map(|g| base.faults(*g)).collect();
    theirs.iter().for_each(|(vm, to)| base.relocate(*vm, *to));
    let no_worse = groups.iter().zip(&before).all(|(g, (short, unserved))| {
        let now = base.faults(*g);
        now.0 <= *short && now.1.iter().all(|fault| unserved.contains(fault))
    });
    if !no_worse {
        undo.iter().for_each(|(vm, to)| base.relocate(*vm, *to));
    }
}

/// How far down the temperature is, on a logarithmic scale. The hotter half, where
/// loads are settled, gets most of the time; the colder one only settles moves that
/// differ little.
fn cooled(progress: f64) -> f64 {
    const HOTTER: f64 = 0.7;
    let progress = progress.clamp(0.0, 1.0);
    if progress < HOTTER {
        progress / HOTTER / 2.0
    } else {
        0.5 + (progress - HOTTER) / (1.0 - HOTTER) / 2.0
    }
}

/// Samples by which the temperatures are chosen.
const SAMPLES: usize = 2_000;

/// The temperatures of begin and end: shares of what moving a VM changes on average,
/// and of the smallest cost of a move.
fn temperatures(state: &State<'_>, rng: &mut Chance) -> (f64, f64) {
    let core = state.core;
    let mut sum = 0.0;
    for _ in 0..SAMPLES {
        let (vm, host) = (rng.below(core.vms), rng.below(core.hosts));
        if vm < core.vms && host < core.hosts && state.place[vm] != NOWHERE {
            sum += state.load_change(vm as VmIndex, host as HostIndex);
        }
    }
    let hot = (sum / SAMPLES as f64 / 4.0).max(1.0);
    let costs = core.model.vms.iter().map(|v| v.move_cost).filter(|c| *c > 0);
    let least = costs.min().map_or(hot * 1e-6, |c| c as f64 / 4.0);
    (hot, least.min(hot))
}
