//! A session over links that break: one link after the other, until everything ends.

use std::thread;
use std::time::{Duration, Instant};

use types::CarrierEvent;

use crate::CarrierError;
use crate::control::Control;
use crate::ending::Ending;
use crate::net::Tls;

/// A connection that cannot be written to may be the other side's ending; its reason comes
/// on the other one.
const REASON: Duration = Duration::from_secs(1);
/// Once everything is delivered, only notes are left: a link is not waited for so long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one link, which ends an outage unless it is the first: frames of the outbox go
/// out, `receive` takes what comes in. Returns the error that ended it; the link is broken
/// then.
pub(crate) fn serve(
    ending: &Ending,
    (number, applied): (u32, u64),
    outage: Option<Outage<'_>>,
    out: &mut [Tls],
    receive: impl FnOnce() -> CarrierError,
) -> CarrierError {
    if let Err(error) = ending.outbox.plug(number, applied) {
        return CarrierError::invalid(error);
    }
    if let Some(outage) = outage {
        outage.over();
    }
    thread::scope(|scope| {
        for lane in out {
            scope.spawn(move || {
                if ending.outbox.send_all(number, lane).is_err() {
                    ending.outbox.wait_unplugged(number, REASON);
                    ending.breakers.shut();
                }
            });
        }
        let error = receive();
        if !matches!(error, CarrierError::Connection { .. } | CarrierError::PeerFailed { .. }) {
            // The other side is to hear of it while the link stands.
            ending.fail(error.clone());
            ending.shut();
        }
        ending.outbox.unplug();
        ending.breakers.shut();
        error
    })
}

/// Tells of broken links and of those that follow, and knows how long one is waited for.
pub(crate) struct Outage<'a> {
    ending: &'a Ending,
    control: &'a Control,
    since: Instant,
    error: CarrierError,
}

impl<'a> Outage<'a> {
    /// The link broke; `None` if nothing is to follow it.
    pub(crate) fn begin(
        ending: &'a Ending,
        control: &'a Control,
        error: CarrierError,
    ) -> Option<Self> {
        if !matches!(error, CarrierError::Connection { .. }) {
            ending.fail(error);
            return None;
        }
        if ending.stopping() {
            return None;
        }
        tracing::warn!(%error, "the link broke");
        if !ending.finished() {
            control.emit(CarrierEvent::LinkLost { why: error.to_string() });
        }
        Some(Self { ending, control, since: Instant::now(), error })
    }

    /// Whether a new link is still waited for, where the policy allows `bound` from the
    /// break or from `shorter_since` on. If not, everything ends.
    pub(crate) fn bears(&self, bound: Duration, shorter_since: Option<Instant>) -> bool {
        if self.ending.stopping() {
            return false;
        }
        let since = shorter_since.map_or(self.since, |s| s.max(self.since));
        let bound = if self.ending.finished() { FAREWELL.min(bound) } else { bound };
        if since.elapsed() < bound {
            return true;
        }
        let why = match &self.error {
            CarrierError::Connection { why, .. } => why.clone(),
            other => other.to_string(),
        };
        let seconds = bound.as_secs_f64();
        self.ending.fail(CarrierError::Connection {
            peer: self.ending.peer().to_owned(),
            why: format!("{why}; it did not come back within the {seconds} s that are allowed"),
        });
        false
    }

    /// A new link is there.
    fn over(self) {
        let outage_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(outage_ms, "the link is back");
        let resent_bytes = self.ending.outbox.resent();
        if !self.ending.finished() {
            self.control.emit(CarrierEvent::LinkResumed { outage_ms, resent_bytes });
        }
    }
}
