//! State that one thread changes and others look at and wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// State under a lock, with waiting.
#[derive(Debug, Default)]
pub(super) struct Watch<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Watch<T> {
    pub(super) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Looks at the state.
    pub(super) fn get(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.get());
        self.changed.notify_all();
        result
    }

    /// Waits until the state is as wanted; `false` after `limit`.
    pub(super) fn wait(&self, limit: Duration, mut wanted: impl FnMut(&T) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.get();
        while !wanted(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
