//! The destination's side of an attempt: what it makes of what it hears.

use std::time::Duration;

use api::body::AttemptIntent;
use handoff::destination::{Action, Destination, Seen, Stage};
use types::{CarrierEvent, Mode};

/// From being ready to the source's carrier.
const CONNECT: Duration = Duration::from_secs(60);

/// The destination's machine and what it has to remember around it. Times are on
/// the caller's clock.
#[derive(Debug, Clone)]
pub struct IncomingCore {
    machine: Destination,
    /// The source has said that the VM is stopped: no other word of it is needed.
    told: bool,
    /// Nothing has moved for this long: the source will not come any more.
    deadline: Option<Duration>,
}

impl IncomingCore {
    /// At `stage`, since `now`.
    pub fn new(stage: Stage, verify: bool, now: Duration) -> Self {
        let (machine, deadline) = (Destination::new(stage, verify), Some(now + CONNECT));
        Self { machine, told: false, deadline }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.machine.stage()
    }

    /// Nothing is left to do.
    pub fn ended(&self) -> bool {
        self.machine.ended()
    }

    /// When [`IncomingCore::overdue`] is to be asked; never, once the carriers met.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Begins a new attempt.
    pub fn begin(&self) -> Vec<Action> {
        self.machine.begin()
    }

    /// What is to be done about `seen`, in order.
    pub fn on(&mut self, seen: Seen) -> Vec<Action> {
        if matches!(seen, Seen::Restarted { .. }) {
            self.deadline = None;
        }
        self.told |= seen == Seen::ToldStopped;
        self.machine.on(seen)
    }

    /// What the controller says of the attempt, as far as it matters now.
    pub fn intent(&self, intent: &AttemptIntent) -> Option<Seen> {
        let record = &intent.record;
        match (&record.abort, record.report.outcome) {
            (Some(reason), _) => Some(Seen::Abort(reason.clone())),
            (None, Some(outcome)) => Some(Seen::Abort(format!("the attempt has ended: {outcome}"))),
            (None, None) => None,
        }
    }

    /// What the carrier says, but for notes.
    pub fn carrier(&mut self, event: &CarrierEvent) -> Option<Seen> {
        match event {
            CarrierEvent::Connected { .. } => {
                self.deadline = None;
                None
            }
            CarrierEvent::Sealed => Some(Seen::Sealed),
            // Nothing is placed behind QEMU's back: its own "completed" says it all.
            CarrierEvent::Mode { mode, .. } if *mode != Mode::Direct => Some(Seen::Sealed),
            CarrierEvent::Failed { reason } => Some(Seen::Failed(reason.clone())),
            _ => None,
        }
    }

    /// The carrier's process has ended. Before the source's word has come, it never will.
    pub fn carrier_gone(&self) -> Option<Seen> {
        (!self.told).then(|| Seen::Failed("the destination's carrier ended".into()))
    }

    /// The deadline has passed.
    pub fn overdue(&mut self) -> Seen {
        self.deadline = None;
        Seen::Failed("the source did not connect in time".into())
    }
}
