//! The source's side of an attempt: what it makes of what it hears.

use std::time::Duration;

use api::body::AttemptIntent;
use handoff::source::{Action, Seen, Source, Stage};
use handoff::{Verdict, verdict};

/// A destination that is not ready by then will not be.
const PREPARE: Duration = Duration::from_secs(90);
/// A hand-over without a verdict is asked about after this long. It decides nothing.
const VERDICT: Duration = Duration::from_secs(30);
/// So long is RUNNING waited for, by which the blackout is measured, once the
/// record has said it.
const RUNNING: Duration = Duration::from_secs(2);

/// The source's machine and what it has to remember around it. Times are on the
/// caller's clock.
#[derive(Debug, Clone)]
pub struct OutgoingCore {
    machine: Source,
    ready: bool,
    aborted: bool,
    /// The destination's agent has said that the VM runs.
    running: bool,
    /// The record had said so before.
    settled: bool,
    deadline: Duration,
    moved: u64,
}

/// What a word of the record comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// This, at once.
    Now(Seen),
    /// This, unless something is heard before.
    Later(Seen, Duration),
}

impl OutgoingCore {
    /// At `stage`, since `now`.
    pub fn new(stage: Stage, gated: bool, now: Duration) -> Self {
        Self {
            machine: Source::new(stage, gated),
            ready: false,
            aborted: false,
            running: false,
            settled: false,
            deadline: now + PREPARE,
            moved: 0,
        }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.machine.stage()
    }

    /// Nothing is left to do.
    pub fn ended(&self) -> bool {
        self.machine.ended()
    }

    /// The destination's agent has said that the VM runs.
    pub fn running_seen(&self) -> bool {
        self.running
    }

    /// When [`OutgoingCore::overdue`] is to be asked.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What is to be done about `seen`, in order.
    pub fn on(&mut self, seen: Seen, now: Duration) -> Vec<Action> {
        let before = self.stage();
        let actions = self.machine.on(seen);
        if self.stage() == Stage::Handing && before != Stage::Handing {
            self.deadline = now + VERDICT;
        }
        actions
    }

    /// What the controller says of the attempt, as far as it matters now;
    /// `carrier`: the carrier is there, so that RUNNING can still come.
    pub fn intent(&mut self, intent: &AttemptIntent, carrier: bool) -> (Vec<Seen>, Told) {
        let mut seen = Vec::new();
        if intent.record.destination.is_some() && !std::mem::replace(&mut self.ready, true) {
            seen.push(Seen::DestinationReady);
        }
        if let Some(reason) = &intent.record.abort
            && intent.record.report.outcome.is_none()
            && !std::mem::replace(&mut self.aborted, true)
        {
            seen.push(Seen::Abort(reason.clone()));
        }
        let told = self.record(verdict(&intent.ownership, &intent.record), carrier);
        (seen, told)
    }

    /// What the record says.
    pub fn record(&mut self, verdict: Verdict, carrier: bool) -> Told {
        if self.stage() != Stage::Handing {
            return Told::Nothing;
        }
        let settled = verdict == Verdict::Claimed { settled: true };
        if settled && !self.running && carrier {
            self.running = true;
            self.settled = true;
            return Told::Later(Seen::Record(verdict), RUNNING);
        }
        Told::Now(Seen::Record(verdict))
    }

    /// The destination's agent says that the VM runs.
    pub fn running(&mut self) -> Option<Seen> {
        self.running = true;
        self.settled.then_some(Seen::Record(Verdict::Claimed { settled: true }))
    }

    /// The carrier gave up. Once the VM runs over there that is its affair.
    pub fn carrier_failed(&self, reason: String) -> Option<Seen> {
        (!self.running).then_some(Seen::Broken(reason))
    }

    /// So many bytes of memory have been handled: as long as memory moves, nothing
    /// is overdue.
    pub fn moved(&mut self, bytes: u64, now: Duration) {
        if bytes > self.moved {
            self.moved = bytes;
            self.deadline = now + VERDICT;
        }
    }

    /// The link between the carriers is lost; they look for another for `longest`.
    pub fn link_lost(&mut self, longest: Duration, now: Duration) {
        self.deadline = now + longest + VERDICT;
    }

    /// They have found it.
    pub fn link_resumed(&mut self, now: Duration) {
        self.deadline = now + VERDICT;
    }

    /// QEMU's word on its migration: its status, and its error where it has one.
    pub fn migration(&self, status: &str, error: Option<&str>) -> Option<Seen> {
        if !matches!(self.stage(), Stage::Copying | Stage::Handing) {
            return None;
        }
        match status {
            "completed" => Some(Seen::Completed),
            "failed" | "cancelled" => {
                Some(Seen::Broken(format!("the source's QEMU: {}", error.unwrap_or(status))))
            }
            _ => None,
        }
    }

    /// The deadline has passed.
    pub fn overdue(&mut self, now: Duration) -> Option<Seen> {
        self.deadline = now + VERDICT;
        match self.stage() {
            Stage::Preparing => {
                Some(Seen::Broken("the destination did not get ready in time".into()))
            }
            Stage::Handing => Some(Seen::Overdue),
            _ => None,
        }
    }
}
