//! The four transitions by which hosts change who runs a VM, as `handoff` decides
//! them, and what the history has to say about each.
//!
//! No notes where the change had been made already. A refusal changes nothing.

use api::body::OwnershipRequest;
use handoff::record::{self, Change};
use types::{HostId, Ownership, Problem, VmId};

use super::{Attempt, Note};

/// Who asks, about which VM, and what they compare with.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The host, as its certificate says.
    pub host: &'a HostId,
    /// The VM of the request's path.
    pub vm: VmId,
    /// What it compares with.
    pub request: &'a OwnershipRequest,
}

impl<'a> Caller<'a> {
    fn plain(self) -> record::Caller<'a> {
        let OwnershipRequest { attempt, epoch, incarnation } = *self.request;
        record::Caller { host: self.host, vm: self.vm, attempt, epoch, incarnation }
    }
}

type Decision = Result<Vec<Note>, Problem>;

/// The destination takes the VM over: the one commit point of a migration.
pub fn claim(own: &mut Ownership, attempt: &mut Attempt, caller: Caller<'_>) -> Decision {
    let change = record::claim(own, &mut attempt.record, caller.plain())?;
    Ok(told(change, || Note::by(caller.host, "claimed").detail(format!("epoch {}", own.epoch))))
}

/// The destination, which claimed the VM and never ran it, returns it.
pub fn give_back(own: &mut Ownership, attempt: &mut Attempt, caller: Caller<'_>) -> Decision {
    let change = record::give_back(own, &mut attempt.record, caller.plain())?;
    Ok(told(change, || Note::by(caller.host, "gave-back").detail(format!("epoch {}", own.epoch))))
}

/// The source keeps the VM; the attempt has its outcome.
pub fn reassert(
    own: &mut Ownership,
    attempt: &mut Attempt,
    caller: Caller<'_>,
    now_ms: i64,
) -> Decision {
    let change = record::reassert(own, &mut attempt.record, caller.plain())?;
    let mut notes = told(change, || {
        let report = &attempt.record.report;
        let outcome = report.outcome.map_or_else(String::new, |o| o.to_string());
        let reason = report.reason.as_deref().unwrap_or_default();
        Note::by(caller.host, "reasserted")
            .detail(format!("epoch {}; {outcome}: {reason}", own.epoch))
    });
    if change == Change::Made {
        notes.extend(attempt.finish(now_ms));
    }
    Ok(notes)
}

/// The destination records that the VM runs there; the attempt is completed.
pub fn settle(
    own: &mut Ownership,
    attempt: &mut Attempt,
    caller: Caller<'_>,
    now_ms: i64,
) -> Decision {
    let change = record::settle(own, &mut attempt.record, caller.plain())?;
    let mut notes =
        told(change, || Note::by(caller.host, "settled").detail(format!("epoch {}", own.epoch)));
    if change == Change::Made {
        notes.extend(attempt.finish(now_ms));
    }
    Ok(notes)
}

fn told(change: Change, note: impl FnOnce() -> Note) -> Vec<Note> {
    match change {
        Change::Made => vec![note()],
        Change::Already => Vec::new(),
    }
}
