//! The store: real records, made from the model's small ones for every change, so
//! that it is the crate's own transitions that decide.

use std::cell::RefCell;
use std::collections::HashMap;

use types::{
    AttemptId, AttemptPhase, AttemptRecord, Epoch, HostId, Incarnation, MigrationReport, Ownership,
    VmId, VmName,
};
use uuid::Uuid;

use super::world::{Abort, Attempt, Invariant, Late, Outcome, Record, World};
use crate::record::{self, Caller, Decision};
use crate::verdict::{Verdict, verdict};

const VM: VmId = VmId(Uuid::from_u128(7));

/// A change that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Claim,
    GiveBack,
    Settle,
    /// With the epoch it compares.
    Reassert(u8),
    Abort(Abort),
    TakeOver,
}

type Key = (Record, u8, Request);

thread_local! {
    /// Decisions are pure, so each is made once.
    static DECIDED: RefCell<HashMap<Key, (Record, bool)>> = RefCell::default();
}

/// Forgets decisions: they were made with other guards.
pub(super) fn forget() {
    DECIDED.with(|d| d.borrow_mut().clear());
}

impl World {
    /// Makes a change for attempt `k`; whether it is in the record now.
    pub(super) fn change(&mut self, k: u8, request: Request) -> bool {
        let key = (self.record, k, request);
        let known = DECIDED.with(|d| d.borrow().get(&key).copied());
        let (record, done) = known.unwrap_or_else(|| {
            let decided = decide(self.record, k, request);
            DECIDED.with(|d| d.borrow_mut().insert(key, decided));
            decided
        });
        let before = std::mem::replace(&mut self.record, record);
        self.compare(&before);
        done
    }

    /// A late request of the attempt in the slot arrives.
    pub(super) fn arrive(&mut self, k: u8, late: Late) {
        self.late.remove(late);
        let began = self.record.attempts[usize::from(k)].epoch;
        let request = match late {
            Late::Claim => Request::Claim,
            Late::GiveBack => Request::GiveBack,
            Late::Settle => Request::Settle,
            Late::Reassert => Request::Reassert(began),
            Late::ReassertReturned => Request::Reassert(began + 2),
        };
        self.change(k, request);
    }

    /// What the record says of attempt `k`.
    pub(super) fn verdict(&self, k: u8) -> Verdict {
        let (own, attempts) = real(&self.record);
        verdict(&own, &attempts[usize::from(k)])
    }

    /// Begins an attempt to the other host.
    pub(super) fn begin(&mut self) -> bool {
        let (mut own, _) = real(&self.record);
        let Some(k) = (0..3).find(|k| !self.used(*k)) else { return false };
        let to = host(1 - self.record.owner);
        if record::begin(&mut own, id(k), &to).is_err() {
            return false;
        }
        if self.record.slot.is_some() {
            self.breaks(Invariant::Verdict, "an attempt lost its slot without an outcome");
        }
        self.record.attempts[usize::from(k)] = Attempt {
            from: self.record.owner,
            epoch: self.record.epoch,
            abort: Abort::No,
            outcome: Outcome::Open,
            ready: false,
        };
        self.record.slot = Some(k);
        self.hosts.iter_mut().for_each(|h| h.begun = false);
        true
    }

    /// Outcomes have to agree with what happened.
    fn compare(&mut self, before: &Record) {
        for (was, now) in before.attempts.iter().zip(self.record.attempts) {
            if was.outcome == now.outcome {
                continue;
            }
            if was.outcome != Outcome::Open {
                self.breaks(Invariant::Verdict, "an outcome changed");
            }
            match now.outcome {
                Outcome::Completed if before.owner == was.from => {
                    self.breaks(Invariant::Verdict, "completed, but the source owned it");
                }
                Outcome::Completed if was.abort != Abort::No => {
                    self.breaks(Invariant::Verdict, "completed, though it was given up");
                }
                Outcome::Failed | Outcome::Cancelled if before.owner != was.from => {
                    self.breaks(Invariant::Verdict, "kept, but the destination owned it");
                }
                _ => {}
            }
        }
    }
}

fn decide(small: Record, k: u8, request: Request) -> (Record, bool) {
    let (mut own, mut attempts) = real(&small);
    let record = &mut attempts[usize::from(k)];
    let (from, to) = (record.from.clone(), record.to.clone());
    let caller =
        |host, epoch| Caller { host, vm: VM, attempt: id(k), epoch, incarnation: Incarnation(1) };
    let began = record.epoch;
    let decision: Decision = match request {
        Request::Claim => record::claim(&mut own, record, caller(&to, began)),
        Request::GiveBack => record::give_back(&mut own, record, caller(&to, began.next())),
        Request::Settle => record::settle(&mut own, record, caller(&to, began.next())),
        Request::Reassert(epoch) => {
            record::reassert(&mut own, record, caller(&from, Epoch(u64::from(epoch))))
        }
        Request::Abort(why) => {
            let change = record::abort(&own, record, "given up");
            if change.is_ok() && why == Abort::Wish {
                record.cancelled = true;
            }
            change
        }
        Request::TakeOver => {
            let (dead, to) = (host(small.owner), host(1 - small.owner));
            record::take_over(&mut own, small.slot.map(|_| record), &dead, &to)
        }
    };
    (smaller(&small, &own, &attempts), decision.is_ok())
}

fn host(index: u8) -> HostId {
    thread_local! {
        static NAMES: [HostId; 2] = ["host-a", "host-b"].map(|n| n.parse().unwrap());
    }
    NAMES.with(|names| names[usize::from(index)].clone())
}

fn id(k: u8) -> AttemptId {
    AttemptId(Uuid::from_u128(u128::from(k) + 1))
}

/// The records as the store would hold them.
fn real(small: &Record) -> (Ownership, [AttemptRecord; 3]) {
    let own = Ownership {
        owner: host(small.owner),
        epoch: Epoch(small.epoch.into()),
        incarnation: Incarnation(1),
        attempt: small.slot.map(id),
        settled: small.settled,
    };
    let attempts = std::array::from_fn(|k| attempt(k as u8, &small.attempts[k]));
    (own, attempts)
}

fn attempt(k: u8, small: &Attempt) -> AttemptRecord {
    thread_local! {
        static NAME: VmName = "web01".parse().unwrap();
    }
    let (from, to) = (host(small.from), host(1 - small.from));
    let name = NAME.with(VmName::clone);
    let mut report = MigrationReport::begun(id(k), name, from.clone(), to.clone(), 0);
    report.outcome = match small.outcome {
        Outcome::Open => None,
        Outcome::Completed => Some(types::Outcome::Completed),
        Outcome::Failed => Some(types::Outcome::Failed),
        Outcome::Cancelled => Some(types::Outcome::Cancelled),
    };
    AttemptRecord {
        id: id(k),
        vm: VM,
        from,
        to,
        epoch: Epoch(small.epoch.into()),
        incarnation: Incarnation(1),
        secret: String::new(),
        verify: false,
        blackout_budget_ms: 300,
        resting: false,
        destination: None,
        phase: AttemptPhase::Preparing,
        abort: (small.abort != Abort::No).then(|| "given up".to_owned()),
        cancelled: small.abort == Abort::Wish,
        report,
    }
}

fn smaller(before: &Record, own: &Ownership, attempts: &[AttemptRecord; 3]) -> Record {
    let mut small = *before;
    small.owner = u8::from(own.owner != host(0));
    small.epoch = u8::try_from(own.epoch.0).unwrap();
    small.slot = own.attempt.map(|id| id.0.as_u128() as u8 - 1);
    small.settled = own.settled;
    for (small, record) in small.attempts.iter_mut().zip(attempts) {
        small.abort = match (&record.abort, record.cancelled) {
            (None, _) => Abort::No,
            (Some(_), false) => Abort::Failure,
            (Some(_), true) => Abort::Wish,
        };
        small.outcome = match record.report.outcome {
            None => Outcome::Open,
            Some(types::Outcome::Completed) => Outcome::Completed,
            Some(types::Outcome::Cancelled) => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
        };
    }
    small
}
