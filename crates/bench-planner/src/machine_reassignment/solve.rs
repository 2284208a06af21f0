//! The planner with a clock: as many moves as fit into the time.

use std::time::{Duration, Instant};

use planner::reassign::{Core, Crew, Invalid, Job, Model, Search};

/// Time that is left for the last steps and for checking.
const RESERVE: Duration = Duration::from_millis(400);
/// Rounds that the time is divided into.
const ROUNDS: u32 = 400;
/// Moves of the first round, by which the speed is measured.
const FIRST: u64 = 20_000;
/// Where chance begins.
const SEED: u64 = 2012;

/// What was found.
pub(crate) struct Found {
    pub(crate) assignment: Vec<u32>,
    pub(crate) cost: i64,
    pub(crate) evaluated: u64,
}

/// Improves the assignment until the deadline.
///
/// # Errors
/// The model is contradictory.
pub(crate) fn solve(model: &Model, begun: Instant, limit: Duration) -> Result<Found, Invalid> {
    let core = Core::new(model)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut search = Search::new(&core, SEED, threads);
    let begin = begun.elapsed().as_secs_f64();
    let end = limit.saturating_sub(RESERVE).as_secs_f64();
    let slice = (end - begin) / f64::from(ROUNDS);
    let mut moves = FIRST;
    loop {
        let now = begun.elapsed().as_secs_f64();
        if now >= end {
            break;
        }
        search.round(&Threads, moves, ((now - begin) / (end - begin)).clamp(0.0, 1.0));
        let took = (begun.elapsed().as_secs_f64() - now).max(1e-6);
        // Towards rounds of equal time, without jumping after one that was disturbed.
        let factor = (slice / took).clamp(0.5, 2.0);
        moves = ((moves as f64 * factor) as u64).max(FIRST);
    }
    let found = search.finish();
    Ok(Found { assignment: found.place, cost: found.cost, evaluated: found.evaluated })
}

/// A thread a job.
struct Threads;

impl Crew for Threads {
    fn run(&self, jobs: Vec<Job<'_>>) {
        std::thread::scope(|scope| {
            for job in jobs {
                scope.spawn(job);
            }
        });
    }
}
