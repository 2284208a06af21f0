//! How a carrier ends: the first failure counts, the other side is told, and no
//! thread stays blocked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::CarrierError;
use crate::control::Control;
use crate::error::cut;
use crate::net::{Breakers, Link};
use crate::outbox::Outbox;

/// What is queued, the reason above all, may take so long to leave.
const DRAIN: Duration = Duration::from_millis(500);

/// What the threads of one side share about its end, with what they send.
pub(crate) struct Ending {
    pub(crate) outbox: Outbox,
    pub(crate) breakers: Breakers,
    peer: String,
    failure: Mutex<Option<CarrierError>>,
    failed: Condvar,
    /// Both directions of QEMU's stream are delivered.
    finished: AtomicBool,
}

impl Ending {
    pub(crate) fn new(stream: u8, peer: String, breakers: Breakers) -> Self {
        Self {
            outbox: Outbox::new(stream),
            breakers,
            peer,
            failure: Mutex::new(None),
            failed: Condvar::new(),
            finished: AtomicBool::new(false),
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<CarrierError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other host.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Everything is to end.
    pub(crate) fn stopping(&self) -> bool {
        self.failure().is_some()
    }

    /// Waits a moment for everything to end; says whether it is to.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let (failure, _) = self
            .failed
            .wait_timeout_while(self.failure(), patience, |failure| failure.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        failure.is_some()
    }

    /// Ends everything. The first failure counts; the other side is told, unless it told us.
    pub(crate) fn fail(&self, error: CarrierError) {
        let mut failure = self.failure();
        if failure.is_some() {
            return;
        }
        let reason = (!matches!(error, CarrierError::PeerFailed { .. })).then(|| cut(&error));
        self.outbox.close(reason.as_deref());
        *failure = Some(error);
        drop(failure);
        self.failed.notify_all();
    }

    /// The other side gave up, and said why.
    pub(crate) fn told(&self, why: String) -> CarrierError {
        CarrierError::PeerFailed { peer: self.peer.clone(), why }
    }

    /// Ends what nobody wants any more, or what cannot go on.
    pub(crate) fn look_after(&self, control: &Control) {
        if control.orphaned() {
            self.fail(CarrierError::Control("no agent has been there for long".into()));
        }
        if self.outbox.overflowed() {
            self.fail(CarrierError::Connection {
                peer: self.peer.clone(),
                why: "more waits to be sent than there is room for".into(),
            });
        }
    }

    /// Tells the other side why there will be no session, before any thread sends.
    pub(crate) fn refuse(&self, error: CarrierError, mut link: Link) -> CarrierError {
        self.fail(error.clone());
        if self.outbox.plug(link.number, link.applied).is_ok() {
            let _ = self.outbox.send_all(link.number, &mut link.backward);
        }
        error
    }

    /// QEMU's stream is delivered in both directions: what breaks later does no harm.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Lets the last words leave, then breaks the connections under whoever is blocked in them.
    pub(crate) fn shut(&self) {
        let until = Instant::now() + DRAIN;
        while !self.outbox.is_drained() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.breakers.close();
        self.outbox.unplug();
    }

    /// What came of it all.
    pub(crate) fn verdict(&self) -> Result<(), CarrierError> {
        match self.failure().clone() {
            Some(CarrierError::Ended) => Err(CarrierError::Ended),
            Some(error) if !self.finished() => Err(error),
            _ => Ok(()),
        }
    }
}
