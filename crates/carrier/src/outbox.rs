//! Frames on their way out: numbered when they are queued, kept until they are
//! acknowledged, sent again on a new link.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::{HEADER, Kind, Sender, SessionError};

/// A payload with room for its header in front.
pub(crate) type Buffer = Vec<u8>;

/// Frames without weight that may be kept; all others are bounded by the window.
const WEIGHTLESS: usize = 4096;
/// Frames that concern the link alone and may wait.
const ASIDE: usize = 64;
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
    /// Not acknowledged, in order.
    kept: VecDeque<Kept>,
    /// How many of them have been taken to be sent on this link.
    taken: usize,
    /// How many of them have been taken on any link.
    taken_before: usize,
    /// Of no place in the stream; forgotten with the link.
    aside: VecDeque<Buffer>,
    /// Newest acknowledgement to be sent; only the newest matters.
    acknowledge: Option<u64>,
    /// Why nothing more comes.
    reason: Option<Buffer>,
    spare: Vec<Buffer>,
    /// How many of the kept are without weight.
    weightless: usize,
    /// The link in use.
    link: Option<u32>,
    /// There has been a link.
    linked: bool,
    /// Frames that are being written.
    writing: usize,
    /// Bytes that were sent on more than one link.
    resent: u64,
    closed: bool,
    /// More came than may wait; from then on nothing is taken, and the session ends.
    overflowed: bool,
}

struct Kept {
    bytes: Arc<Buffer>,
    weightless: bool,
}

impl Outbox {
    pub(crate) fn new(stream: u8) -> Self {
        let state = State {
            session: Sender::new(stream),
            kept: VecDeque::new(),
            taken: 0,
            taken_before: 0,
            aside: VecDeque::new(),
            acknowledge: None,
            reason: None,
            spare: Vec::new(),
            weightless: 0,
            link: None,
            linked: false,
            writing: 0,
            resent: 0,
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
        if kind.is_numbered() && weight == 0 && state.weightless >= WEIGHTLESS {
            state.overflowed = true;
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
        let mut state = self.lock();
        let freed = state.session.acknowledged(sequence)?;
        state.forget();
        drop(state);
        self.freed.notify_all();
        Ok(freed)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.lock().session.in_flight()
    }

    /// Bytes that were sent on more than one link.
    pub(crate) fn resent(&self) -> u64 {
        self.lock().resent
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

    /// A new link is there, whose other end has applied everything up to `applied`:
    /// what follows goes out on it, whether or not it was sent before.
    pub(crate) fn plug(&self, link: u32, applied: u64) -> Result<(), SessionError> {
        let mut state = self.lock();
        state.session.resume(applied)?;
        state.forget();
        let again = state.taken_before;
        state.resent += state.kept.iter().take(again).map(|k| k.bytes.len() as u64).sum::<u64>();
        state.taken = 0;
        state.aside.clear();
        state.link = Some(link);
        state.linked = true;
        drop(state);
        self.freed.notify_all();
        Ok(())
    }

    /// The link is gone.
    pub(crate) fn unplug(&self) {
        self.lock().link = None;
        self.filled.notify_all();
    }

    /// Waits a moment for the link to be unplugged.
    pub(crate) fn wait_unplugged(&self, link: u32, patience: Duration) {
        let plugged = |state: &mut State| state.link == Some(link);
        let _ = self.filled.wait_timeout_while(self.lock(), patience, plugged);
    }

    /// Sends what is queued, then `reason` if there is one, then nothing more.
    /// Much that waits is dropped, where it would keep the reason waiting.
    pub(crate) fn close(&self, reason: Option<&[u8]>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if let Some(reason) = reason {
            let waiting: usize = state.waiting().map(|k| k.bytes.len()).sum();
            if waiting > BEFORE_REASON {
                let taken = state.taken;
                state.kept.truncate(taken);
            }
            let mut buffer = vec![0; HEADER];
            buffer.extend_from_slice(reason);
            state.number(Kind::Fail, &mut buffer, 0);
            state.reason = Some(buffer);
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

    /// Nothing more can or need be written.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        let idle = state.waiting().next().is_none()
            && state.aside.is_empty()
            && state.acknowledge.is_none()
            && state.reason.is_none()
            && state.writing == 0;
        // A link that is yet to come may still take the reason; one that went takes nothing.
        (state.linked && state.link.is_none()) || idle
    }

    /// Sends frames on one connection of `link`, until the link is unplugged or the box
    /// is closed and empty.
    pub(crate) fn send_all(&self, link: u32, out: &mut impl Write) -> io::Result<()> {
        while let Some(bytes) = self.next(link) {
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            let mut state = self.lock();
            state.writing -= 1;
            state.recycle(bytes);
            written?;
        }
        Ok(())
    }

    fn next(&self, link: u32) -> Option<Arc<Buffer>> {
        let mut state = self.lock();
        loop {
            if state.link != Some(link) {
                return None;
            }
            if let Some(bytes) = state.take() {
                state.writing += 1;
                return Some(bytes);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn number(&mut self, kind: Kind, buffer: &mut Buffer, weight: u64) {
        let header = self.session.next(kind, buffer.len() - HEADER, weight);
        buffer[..HEADER].copy_from_slice(&header.to_bytes());
    }

    fn queue_up(&mut self, kind: Kind, mut buffer: Buffer, weight: u64) {
        self.number(kind, &mut buffer, weight);
        if kind.is_numbered() {
            let weightless = weight == 0;
            self.weightless += usize::from(weightless);
            self.kept.push_back(Kept { bytes: Arc::new(buffer), weightless });
        } else if self.aside.len() < ASIDE && self.link.is_some() {
            self.aside.push_back(buffer);
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().skip(self.taken)
    }

    /// The next frame to be written.
    fn take(&mut self) -> Option<Arc<Buffer>> {
        if let Some(sequence) = self.acknowledge.take() {
            let mut buffer = vec![0; HEADER];
            buffer.extend_from_slice(&sequence.to_be_bytes());
            self.number(Kind::Acknowledge, &mut buffer, 0);
            return Some(Arc::new(buffer));
        }
        if let Some(buffer) = self.aside.pop_front() {
            return Some(Arc::new(buffer));
        }
        if let Some(kept) = self.kept.get(self.taken) {
            let bytes = Arc::clone(&kept.bytes);
            self.taken += 1;
            self.taken_before = self.taken_before.max(self.taken);
            return Some(bytes);
        }
        self.reason.take().map(Arc::new)
    }

    /// Drops what is acknowledged.
    fn forget(&mut self) {
        let due = (self.session.sent() - self.session.base()) as usize;
        while self.kept.len() > due
            && let Some(kept) = self.kept.pop_front()
        {
            self.weightless -= usize::from(kept.weightless);
            self.taken = self.taken.saturating_sub(1);
            self.taken_before = self.taken_before.saturating_sub(1);
            self.recycle(kept.bytes);
        }
    }

    fn recycle(&mut self, bytes: Arc<Buffer>) {
        if self.spare.len() < SPARE
            && let Ok(buffer) = Arc::try_unwrap(bytes)
            && buffer.capacity() > HEADER
        {
            self.spare.push(buffer);
        }
    }
}
