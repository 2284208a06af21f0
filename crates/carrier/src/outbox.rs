//! Frames on their way out: numbered when they are queued, sent by one thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::{HEADER, Kind, Sender, SessionError};

/// A payload with room for its header in front.
pub(crate) type Buffer = Vec<u8>;

/// Frames without weight that may wait; all others are bounded by the window.
const WEIGHTLESS: usize = 4096;
/// A failure's reason does not wait behind more than this, in bytes.
const BEFORE_REASON: usize = 64 << 10;
const SPARE: usize = 8;

pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Condvar,
    freed: Condvar,
}

struct State {
    session: Sender,
    queue: VecDeque<Queued>,
    spare: Vec<Buffer>,
    /// How many in the queue are without weight.
    weightless: usize,
    /// Newest acknowledgement to be sent; only the newest matters.
    acknowledge: Option<u64>,
    /// A frame has been taken out and is being written.
    writing: bool,
    closed: bool,
    /// More came than may wait; from then on nothing is taken, and the session ends.
    overflowed: bool,
}

struct Queued {
    bytes: Buffer,
    weightless: bool,
}

impl Outbox {
    pub(crate) fn new(stream: u8) -> Self {
        let state = State {
            session: Sender::new(stream),
            queue: VecDeque::new(),
            spare: Vec::new(),
            weightless: 0,
            acknowledge: None,
            writing: false,
            closed: false,
            overflowed: false,
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
        if state.closed || state.overflowed {
            return;
        }
        if weight == 0 && state.weightless >= WEIGHTLESS {
            // A ping that waits that long measures nothing; anything else must not be missing.
            state.overflowed = !matches!(kind, Kind::Ping | Kind::Pong);
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
        if state.closed || state.overflowed {
            return;
        }
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

    /// Sends what is queued, then `reason` if there is one, then nothing more.
    /// Much that waits is dropped, where it would keep the reason waiting.
    pub(crate) fn close(&self, reason: Option<&[u8]>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if let Some(reason) = reason {
            let waiting: usize = state.queue.iter().map(|q| q.bytes.len()).sum();
            if waiting > BEFORE_REASON {
                state.queue.clear();
                state.weightless = 0;
            }
            let mut buffer = vec![0; HEADER];
            buffer.extend_from_slice(reason);
            state.queue_up(Kind::Fail, buffer, 0);
        }
        state.closed = true;
        drop(state);
        self.filled.notify_all();
        self.freed.notify_all();
    }

    /// More came than may wait: whoever sees this ends the session.
    pub(crate) fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Everything has been written.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.acknowledge.is_none() && !state.writing
    }

    /// Sends frames until the box is closed and empty.
    pub(crate) fn send_all(&self, out: &mut impl Write) -> io::Result<()> {
        while let Some(mut buffer) = self.next() {
            let written = out.write_all(&buffer).and_then(|()| out.flush());
            let mut state = self.lock();
            state.writing = false;
            written?;
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
            if let Some(queued) = state.queue.pop_front() {
                state.weightless -= usize::from(queued.weightless);
                state.writing = true;
                return Some(queued.bytes);
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
        let weightless = weight == 0;
        self.weightless += usize::from(weightless);
        self.queue.push_back(Queued { bytes: buffer, weightless });
    }
}
