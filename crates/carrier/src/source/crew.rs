//! Page work on several threads.
//!
//! A batch that the reader has collected is one job. Jobs that are under way hold different
//! pages, because the reader waits for all of them before a page can come again; so they may
//! end in any order, and each page's last version is sent last.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pages::{Batch, PAGE_SIZE, PRINTS};
use wire::Kind;

use super::Shared;
use super::desk::Desk;
use super::work::Worker;
use crate::CarrierError;

/// More threads than this are of no use to one QEMU's stream.
const MOST_THREADS: usize = 4;
/// Batches that wait for the destination to say what it has of their pages.
const PARKED: usize = 64;
const LOOK: Duration = Duration::from_millis(50);

/// Jobs, and the threads that do them.
pub(crate) struct Crew {
    state: Mutex<State>,
    changed: Condvar,
    /// What all of them know.
    pub(super) desk: Desk,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    working: usize,
    /// Bytes of pages in jobs and in what is parked.
    pending: u64,
    /// Asked about, oldest first.
    parked: VecDeque<Batch>,
    spare: Vec<Batch>,
    closed: bool,
}

enum Job {
    /// Pages as QEMU gave them.
    New(Batch),
    /// Pages of which the destination has said what it has.
    Answered(Batch, Vec<u8>),
}

impl Crew {
    pub(super) fn new(desk: Desk) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), desk }
    }

    /// How many threads are to [`Self::work`].
    pub(super) fn threads() -> usize {
        thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Guest memory that was handed in and is not on its way yet, in bytes.
    pub(super) fn pending(&self) -> u64 {
        self.lock().pending
    }

    /// Hands in the batch and empties it. Waits for a free place.
    pub(super) fn submit(&self, shared: &Shared, batch: &mut Batch) {
        let mut state = self.lock();
        while state.jobs.len() >= Self::threads() && !shared.ending.stopping() {
            state = self.wait(state);
        }
        let empty = state.spare.pop().unwrap_or_default();
        state.pending += batch.bytes().len() as u64;
        state.jobs.push_back(Job::New(mem::replace(batch, empty)));
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until every page that was handed in is on its way.
    pub(super) fn drain(&self, shared: &Shared) {
        let mut state = self.lock();
        let busy = |s: &State| s.working > 0 || !s.jobs.is_empty() || !s.parked.is_empty();
        while busy(&state) && !shared.ending.stopping() {
            state = self.wait(state);
        }
    }

    /// Asks the destination what it has of these pages, which wait for the answer. Gives
    /// them back where too many wait already.
    pub(super) fn ask(&self, shared: &Shared, batch: Batch) -> Option<Batch> {
        let mut state = self.lock();
        if state.parked.len() >= PARKED {
            return Some(batch);
        }
        let mut buffer = shared.outbox().buffer();
        batch.question().write(&mut buffer);
        let weight = buffer.len() as u64;
        // Questions leave in the order in which their batches wait.
        shared.outbox().push(Kind::Ask, buffer, weight);
        state.pending += batch.bytes().len() as u64;
        state.parked.push_back(batch);
        None
    }

    /// The destination's answer to the oldest question.
    pub(super) fn answered(&self, payload: &[u8]) -> Result<(), CarrierError> {
        let mut state = self.lock();
        let asked = state.parked.front().map_or(0, |batch| batch.bytes().len() / PAGE_SIZE);
        if asked == 0 || payload.len() != asked * PRINTS {
            return Err(CarrierError::invalid("fingerprints that nobody asked for"));
        }
        if let Some(batch) = state.parked.pop_front() {
            state.jobs.push_front(Job::Answered(batch, payload.to_vec()));
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// No more work comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// One thread's work, until the crew is closed.
    pub(super) fn work(&self, shared: &Shared) {
        let mut worker = match Worker::new(shared) {
            Ok(worker) => worker,
            Err(error) => return shared.fail(error),
        };
        while let Some(job) = self.next() {
            let mut batch = match job {
                Job::New(batch) => {
                    worker.send(&batch);
                    batch
                }
                Job::Answered(batch, prints) => {
                    worker.send_answered(&batch, &prints);
                    batch
                }
            };
            let bytes = batch.bytes().len() as u64;
            batch.clear();
            let mut state = self.lock();
            state.working -= 1;
            state.pending -= bytes;
            if state.spare.len() <= MOST_THREADS {
                state.spare.push(batch);
            }
            drop(state);
            self.changed.notify_all();
            shared.outbox().nudge();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.working += 1;
                drop(state);
                self.changed.notify_all();
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
