//! The four transitions by which hosts change who runs a VM.
//!
//! Each gives the notes of its change; none where the change had been made
//! already. A refusal changes nothing.

use api::body::OwnershipRequest;
use types::{AttemptPhase, Code, HostId, Outcome, Ownership, Problem, VmId};

use super::{Attempt, Note};

/// Who asks, about which VM, and what they compare with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// The host, as its certificate says.
    pub(crate) host: &'a HostId,
    /// The VM of the request's path.
    pub(crate) vm: VmId,
    /// What it compares with.
    pub(crate) request: &'a OwnershipRequest,
}

type Decision = Result<Vec<Note>, Problem>;

/// The destination takes the VM over: the one commit point of a migration.
pub(crate) fn claim(own: &mut Ownership, attempt: &mut Attempt, caller: Caller<'_>) -> Decision {
    let (request, record) = (caller.request, &attempt.record);
    caller.concerns(own, attempt)?;
    must(caller.host == &record.to, || "only the destination claims".to_owned())?;
    let slot = own.attempt == Some(request.attempt);
    must(request.epoch == record.epoch, || began(attempt))?;
    if slot && own.owner == record.to && own.epoch == request.epoch.next() {
        return Ok(Vec::new());
    }
    must(slot, || not_open(own, attempt))?;
    must(own.owner == record.from && own.epoch == request.epoch, || standing(own))?;
    if let Some(reason) = &record.abort {
        return Err(Problem::new(
            Code::Conflict,
            format!("attempt {} ends without a move: {reason}", record.id),
        ));
    }
    own.owner = record.to.clone();
    own.epoch = own.epoch.next();
    own.settled = false;
    attempt.advance(AttemptPhase::Activating);
    Ok(vec![Note::by(caller.host, "claimed").detail(format!("epoch {}", own.epoch))])
}

/// The destination, which claimed the VM and never ran it, returns it.
pub(crate) fn give_back(
    own: &mut Ownership,
    attempt: &mut Attempt,
    caller: Caller<'_>,
) -> Decision {
    let request = caller.request;
    caller.concerns(own, attempt)?;
    let record = &mut attempt.record;
    must(caller.host == &record.to, || "only the destination gives back".to_owned())?;
    let slot = own.attempt == Some(request.attempt);
    let returned = own.owner == record.from && own.epoch == request.epoch.next();
    // An attempt begins at its epoch and is claimed once: two later, it was returned.
    if slot && returned && own.epoch == record.epoch.next().next() {
        return Ok(Vec::new());
    }
    must(slot, || format!("the VM is not in the slot of attempt {}", request.attempt))?;
    must(own.owner == record.to && own.epoch == request.epoch, || standing(own))?;
    must(!own.settled, || "it has been recorded that the VM runs there".to_owned())?;
    own.owner = record.from.clone();
    own.epoch = own.epoch.next();
    record.abort.get_or_insert_with(|| "destination gave it back".to_owned());
    Ok(vec![Note::by(caller.host, "gave-back").detail(format!("epoch {}", own.epoch))])
}

/// The source keeps the VM; no later claim compares equal, and the attempt has
/// its outcome.
pub(crate) fn reassert(
    own: &mut Ownership,
    attempt: &mut Attempt,
    caller: Caller<'_>,
    now_ms: i64,
) -> Decision {
    let (request, record) = (caller.request, &attempt.record);
    caller.concerns(own, attempt)?;
    must(caller.host == &record.from, || "only the source reasserts".to_owned())?;
    must(own.owner == record.from, || standing(own))?;
    let kept = matches!(record.report.outcome, Some(Outcome::Failed | Outcome::Cancelled));
    if kept && own.epoch >= request.epoch.next() {
        return Ok(Vec::new());
    }
    must(own.attempt == Some(request.attempt), || not_open(own, attempt))?;
    must(own.epoch == request.epoch, || standing(own))?;
    own.epoch = own.epoch.next();
    own.attempt = None;
    own.settled = true;
    let record = &mut attempt.record;
    let reason = record.abort.clone().unwrap_or_else(|| "the source kept it".to_owned());
    let outcome = if record.cancelled { Outcome::Cancelled } else { Outcome::Failed };
    record.report.outcome = Some(outcome);
    record.report.reason = Some(reason.clone());
    let note = Note::by(caller.host, "reasserted")
        .detail(format!("epoch {}; {outcome}: {reason}", own.epoch));
    Ok([note].into_iter().chain(attempt.finish(now_ms)).collect())
}

/// The destination records that the VM runs there; the attempt is completed.
pub(crate) fn settle(
    own: &mut Ownership,
    attempt: &mut Attempt,
    caller: Caller<'_>,
    now_ms: i64,
) -> Decision {
    let (request, record) = (caller.request, &attempt.record);
    caller.concerns(own, attempt)?;
    must(caller.host == &record.to, || "only the destination settles".to_owned())?;
    must(own.owner == record.to, || standing(own))?;
    if record.report.outcome == Some(Outcome::Completed) {
        return Ok(Vec::new());
    }
    must(own.attempt == Some(request.attempt), || not_open(own, attempt))?;
    must(own.epoch == request.epoch, || standing(own))?;
    own.settled = true;
    own.attempt = None;
    attempt.record.report.outcome = Some(Outcome::Completed);
    attempt.advance(AttemptPhase::Cleaning);
    let note = Note::by(caller.host, "settled").detail(format!("epoch {}", own.epoch));
    Ok([note].into_iter().chain(attempt.finish(now_ms)).collect())
}

impl Caller<'_> {
    /// Whether VM, attempt and incarnation belong together.
    fn concerns(&self, own: &Ownership, attempt: &Attempt) -> Result<(), Problem> {
        let (request, record) = (self.request, &attempt.record);
        if record.vm != self.vm || record.id != request.attempt {
            return Err(Problem::new(
                Code::InvalidRequest,
                format!("attempt {} is not of VM {}", request.attempt, self.vm),
            ));
        }
        let now = own.incarnation;
        must(request.incarnation == now && record.incarnation == now, || {
            format!("the store's incarnation is {}", now.0)
        })
    }
}

fn must(holds: bool, why: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::new(Code::Conflict, why())) }
}

fn began(attempt: &Attempt) -> String {
    format!("attempt {} began at epoch {}", attempt.record.id, attempt.record.epoch)
}

fn standing(own: &Ownership) -> String {
    format!("{} owns the VM at epoch {}", own.owner, own.epoch)
}

fn not_open(own: &Ownership, attempt: &Attempt) -> String {
    match own.attempt {
        Some(other) => format!("the VM is in the slot of attempt {other}"),
        None => match attempt.record.report.outcome {
            Some(outcome) => format!("attempt {} has ended: {outcome}", attempt.record.id),
            None => format!("attempt {} does not hold the VM's slot", attempt.record.id),
        },
    }
}
