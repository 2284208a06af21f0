//! Frames on their way out: numbered when they are queued, sent by one thread.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::{HEADER, Kind, Sender, SessionError};

/// A payload with room for its header in front.
pub(crate) type Buffer = Vec<u8>;

/// Small frames (notes, pings, return path) that may wait. Memory is bounded by the window.
const SMALL: usize = 4096;
const SPARE: usize = 8;

pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Condvar,
    freed: Condvar,
}

struct State {
    session: Sender,
    queue: VecDeque<Buffer>,
    spare: Vec<Buffer>,
    /// Newest acknowledgement to be sent; only the newest matters.
    acknowledge: Option<u64>,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(stream: u8) -> Self {
        let state = State {
            session: Sender::new(stream),
            queue: VecDeque::new(),
            spare: Vec::new(),
            acknowledge: None,
            closed: false,
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty payload.
    pub(crate) fn buffer(&self) -> Buffer {
        let mut buffer = self.lock().spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(HEADER, 0);
        buffer
    }

    /// Queues a frame; `weight` counts as in flight until it is acknowledged.
    pub(crate) fn push(&self, kind: Kind, buffer: Buffer, weight: u64) {
        let mut state = self.lock();
        if state.closed || (weight == 0 && state.queue.len() >= SMALL) {
            return;
        }
        state.queue_up(kind, buffer, weight);
        drop(state);
        self.filled.notify_one();
    }

    /// Queues a frame of a few bytes.
    pub(crate) fn push_bytes(&self, kind: Kind, payload: &[u8]) {
        let mut buffer = self.buffer();
        buffer.extend_from_slice(payload);
        self.push(kind, buffer, 0);
    }

    /// Queues the seal, which counts the frames before it.
    pub(crate) fn push_seal(&self) {
        let mut buffer = self.buffer();
        let mut state = self.lock();
        buffer.extend_from_slice(&state.session.sent().to_be_bytes());
        state.queue_up(Kind::Seal, buffer, 0);
        drop(state);
        self.filled.notify_one();
    }

    /// Everything up to `sequence` of the other direction is applied.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.lock().acknowledge = Some(sequence);
        self.filled.notify_one();
    }

    /// The other side has applied everything up to `sequence`; returns the bytes this frees.
    pub(crate) fn acknowledged(&self, sequence: u64) -> Result<u64, SessionError> {
        let freed = self.lock().session.acknowledged(sequence)?;
        self.freed.notify_all();
        Ok(freed)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.lock().session.in_flight()
    }

    /// Waits a moment for less than `window` bytes to be in flight; says whether they are.
    pub(crate) fn below(&self, window: u64, patience: Duration) -> bool {
        let state = self.lock();
        let full = |state: &mut State| state.session.in_flight() >= window && !state.closed;
        let (mut state, _) = self
            .freed
            .wait_timeout_while(state, patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        !full(&mut state)
    }

    /// Wakes whoever waits for the window, because the window has changed.
    pub(crate) fn nudge(&self) {
        self.freed.notify_all();
    }

    /// Sends what is queued, then returns.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.freed.notify_all();
    }

    /// Nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.acknowledge.is_none()
    }

    /// Sends frames until the box is closed and empty.
    pub(crate) fn send_all(&self, out: &mut impl Write) -> std::io::Result<()> {
        while let Some(mut buffer) = self.next() {
            out.write_all(&buffer)?;
            out.flush()?;
            let mut state = self.lock();
            if state.spare.len() < SPARE && buffer.capacity() > HEADER {
                buffer.clear();
                state.spare.push(buffer);
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Buffer> {
        let mut state = self.lock();
        loop {
            if let Some(sequence) = state.acknowledge.take() {
                let mut buffer = state.spare.pop().unwrap_or_default();
                buffer.clear();
                buffer.resize(HEADER, 0);
                buffer.extend_from_slice(&sequence.to_be_bytes());
                // Numbered after what is queued already: it must not overtake.
                state.queue_up(Kind::Acknowledge, buffer, 0);
            }
            if let Some(buffer) = state.queue.pop_front() {
                return Some(buffer);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn queue_up(&mut self, kind: Kind, mut buffer: Buffer, weight: u64) {
        let header = self.session.next(kind, buffer.len() - HEADER, weight);
        buffer[..HEADER].copy_from_slice(&header.to_bytes());
        self.queue.push_back(buffer);
    }
}
