//! How the record that decides who runs a VM changes.
//!
//! Every change is made upon what was read, and written only if nobody wrote
//! meanwhile. A refusal changes nothing; a change that was made already is told
//! as such, so that a request may be repeated.

use types::{
    AttemptId, AttemptPhase, AttemptRecord, Code, Epoch, HostId, Incarnation, Outcome, Ownership,
    Problem, VmId,
};

use crate::guard::Guard;

/// Who asks, about which VM, and what they compare with.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The host, as its certificate says.
    pub host: &'a HostId,
    /// The VM.
    pub vm: VmId,
    /// The attempt on whose behalf it asks.
    pub attempt: AttemptId,
    /// The epoch it compares with.
    pub epoch: Epoch,
    /// The incarnation it compares with.
    pub incarnation: Incarnation,
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The record has changed.
    Made,
    /// It had been changed so before.
    Already,
}

/// The answer to a request.
pub type Decision = Result<Change, Problem>;

/// Takes the one slot for attempt `id`, which would move the VM to `to`.
///
/// # Errors
/// Another attempt is open, or `to` owns the VM.
pub fn begin(own: &mut Ownership, id: AttemptId, to: &HostId) -> Result<(), Problem> {
    if !Guard::OneSlot.holds(own.attempt.is_none()) || !own.settled {
        return Err(Problem::new(Code::MigrationUnderWay, "the VM is being migrated"));
    }
    if own.owner == *to {
        return Err(Problem::new(Code::SameHost, format!("the VM is on {to} already")));
    }
    own.attempt = Some(id);
    Ok(())
}

/// Marks the attempt as to be given up, unless it is too late; the source's
/// [`reassert`] ends it. Of two reasons the first stays.
///
/// # Errors
/// It has ended, or the destination owns the VM.
pub fn abort(own: &Ownership, record: &mut AttemptRecord, reason: &str) -> Decision {
    if record.report.outcome.is_some() {
        let detail = format!("attempt {} has ended", record.id);
        return Err(Problem::new(Code::NoMigration, detail));
    }
    if own.owner != record.from {
        return Err(Problem::new(Code::TooLate, standing(own)));
    }
    if record.abort.is_some() {
        return Ok(Change::Already);
    }
    record.abort = Some(reason.to_owned());
    Ok(Change::Made)
}

/// The destination takes the VM over: the one commit point of a migration.
///
/// # Errors
/// It does not compare equal, or the attempt is being given up.
pub fn claim(own: &mut Ownership, record: &mut AttemptRecord, caller: Caller<'_>) -> Decision {
    caller.concerns(own, record)?;
    must(caller.host == &record.to, || "only the destination claims".to_owned())?;
    let slot = own.attempt == Some(caller.attempt);
    must(caller.epoch == record.epoch, || {
        format!("attempt {} began at epoch {}", record.id, record.epoch)
    })?;
    if slot && own.owner == record.to && own.epoch == caller.epoch.next() {
        return Ok(Change::Already);
    }
    let as_it_began = slot && own.owner == record.from && own.epoch == caller.epoch;
    must(Guard::ClaimCompares.holds(as_it_began), || match slot {
        true => standing(own),
        false => not_open(own, record),
    })?;
    if let Some(reason) = record.abort.as_ref().filter(|_| Guard::ClaimRefusesAborted.stands()) {
        let detail = format!("attempt {} ends without a move: {reason}", record.id);
        return Err(Problem::new(Code::Conflict, detail));
    }
    own.owner = record.to.clone();
    own.epoch = own.epoch.next();
    own.settled = false;
    record.phase = record.phase.max(AttemptPhase::Activating);
    Ok(Change::Made)
}

/// The destination, which claimed the VM and never ran it, returns it.
///
/// # Errors
/// It does not compare equal, or it has been recorded that the VM runs there.
pub fn give_back(own: &mut Ownership, record: &mut AttemptRecord, caller: Caller<'_>) -> Decision {
    caller.concerns(own, record)?;
    must(caller.host == &record.to, || "only the destination gives back".to_owned())?;
    let slot = own.attempt == Some(caller.attempt);
    let returned = own.owner == record.from && own.epoch == caller.epoch.next();
    // An attempt begins at its epoch and is claimed once: two later, it was returned.
    if slot && returned && own.epoch == record.epoch.next().next() {
        return Ok(Change::Already);
    }
    must(slot, || not_open(own, record))?;
    must(own.owner == record.to && own.epoch == caller.epoch, || standing(own))?;
    must(!own.settled, || "it has been recorded that the VM runs there".to_owned())?;
    own.owner = record.from.clone();
    own.epoch = own.epoch.next();
    record.abort.get_or_insert_with(|| "destination gave it back".to_owned());
    Ok(Change::Made)
}

/// The source keeps the VM; no later claim compares equal, and the attempt has
/// its outcome.
///
/// # Errors
/// It does not compare equal.
pub fn reassert(own: &mut Ownership, record: &mut AttemptRecord, caller: Caller<'_>) -> Decision {
    caller.concerns(own, record)?;
    must(caller.host == &record.from, || "only the source reasserts".to_owned())?;
    let ended = matches!(record.report.outcome, Some(Outcome::Failed | Outcome::Cancelled));
    let kept = ended && own.epoch >= caller.epoch.next();
    let as_read = own.owner == record.from && (kept || own.epoch == caller.epoch);
    must(Guard::ReassertCompares.holds(as_read), || standing(own))?;
    if kept {
        return Ok(Change::Already);
    }
    must(own.attempt == Some(caller.attempt), || not_open(own, record))?;
    own.epoch = own.epoch.next();
    own.attempt = None;
    own.settled = true;
    let cancelled = if record.cancelled { Outcome::Cancelled } else { Outcome::Failed };
    record.report.outcome = Some(cancelled);
    let reason = record.abort.clone().unwrap_or_else(|| "the source kept it".to_owned());
    record.report.reason = Some(reason);
    Ok(Change::Made)
}

/// The destination records that the VM runs there; the attempt is completed.
///
/// # Errors
/// It does not compare equal.
pub fn settle(own: &mut Ownership, record: &mut AttemptRecord, caller: Caller<'_>) -> Decision {
    caller.concerns(own, record)?;
    must(caller.host == &record.to, || "only the destination settles".to_owned())?;
    must(own.owner == record.to, || standing(own))?;
    if record.report.outcome == Some(Outcome::Completed) {
        return Ok(Change::Already);
    }
    must(own.attempt == Some(caller.attempt), || not_open(own, record))?;
    must(own.epoch == caller.epoch, || standing(own))?;
    own.settled = true;
    own.attempt = None;
    record.report.outcome = Some(Outcome::Completed);
    record.phase = record.phase.max(AttemptPhase::Cleaning);
    Ok(Change::Made)
}

/// The owner `dead` has been fenced, or a person vouches that it is dead: the VM
/// is to be started afresh on `to`. `record` is the attempt that holds the slot,
/// if one does; it ends, and what any other host holds of the VM is stale.
///
/// # Errors
/// The VM is not owned by `dead`, or `to` is the dead host.
pub fn take_over(
    own: &mut Ownership,
    record: Option<&mut AttemptRecord>,
    dead: &HostId,
    to: &HostId,
) -> Decision {
    must(own.owner == *dead && dead != to, || standing(own))?;
    if let Some(record) = record.filter(|r| own.attempt == Some(r.id)) {
        // Claimed: the VM had moved, and died there. The source must not go on.
        let moved = own.owner == record.to;
        let outcome = if moved { Outcome::Completed } else { Outcome::Failed };
        record.report.outcome = Some(outcome);
        record.report.reason = Some(format!("{dead} died; the VM was started on {to}"));
    }
    own.owner = to.clone();
    own.epoch = own.epoch.next();
    own.attempt = None;
    own.settled = true;
    Ok(Change::Made)
}

impl Caller<'_> {
    /// Whether VM, attempt and incarnation belong together.
    fn concerns(&self, own: &Ownership, record: &AttemptRecord) -> Result<(), Problem> {
        if record.vm != self.vm || record.id != self.attempt {
            let detail = format!("attempt {} is not of VM {}", self.attempt, self.vm);
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        let now = own.incarnation;
        must(self.incarnation == now && record.incarnation == now, || {
            format!("the store's incarnation is {}", now.0)
        })
    }
}

fn must(holds: bool, why: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::new(Code::Conflict, why())) }
}

fn standing(own: &Ownership) -> String {
    format!("{} owns the VM at epoch {}", own.owner, own.epoch)
}

fn not_open(own: &Ownership, record: &AttemptRecord) -> String {
    match (own.attempt, record.report.outcome) {
        (Some(other), _) => format!("the VM is in the slot of attempt {other}"),
        (None, Some(outcome)) => format!("attempt {} has ended: {outcome}", record.id),
        (None, None) => format!("attempt {} does not hold the VM's slot", record.id),
    }
}
