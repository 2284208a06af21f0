//! A store that was restored from a backup: what it says is old. What hosts say
//! they have makes it true again; until then nothing is told to anybody.

use api::body::VmFacts;
use types::{AttemptPhase, Epoch, HostId, Incarnation, Outcome, Ownership, RunState};

use super::{Attempt, Note, Vm};

/// Why attempts of the old store end.
const REASON: &str = "the controller's store was restored from a backup";

/// The record of an owner is of this store, and not of the one it was restored from.
pub fn confirmed(own: Option<&Ownership>, now: Incarnation) -> bool {
    own.is_none_or(|own| own.incarnation == now)
}

/// A host has a QEMU of a VM whose record is not confirmed: it is the owner, if it
/// was told so last and no migration is in the way. `None`: not to be decided by that.
pub fn found(
    vm: Option<&Vm>,
    own: Option<&Ownership>,
    host: &HostId,
    facts: &VmFacts,
    now: Incarnation,
) -> Option<(Vm, Ownership, Note)> {
    let known = own.is_some_and(|own| own.incarnation == now);
    let theirs = facts.ownership.as_ref().is_some_and(|told| told.owner != *host);
    if known || theirs || facts.moving || facts.state == RunState::Stopped {
        return None;
    }
    let spec = vm.map(|vm| vm.spec.clone()).or_else(|| facts.spec.clone())?;
    let told = facts.ownership.as_ref().map_or(Epoch(0), |told| told.epoch);
    let epoch = own.map_or(Epoch(0), |own| own.epoch).max(told).next();
    let confirmed =
        Ownership { owner: host.clone(), epoch, incarnation: now, attempt: None, settled: true };
    let base = vm.cloned().unwrap_or_else(|| Vm::new(spec, facts.state));
    let start_generation = base.start_generation.max(facts.start_generation);
    let made = Vm { desired: facts.state, start_generation, ..base };
    let word =
        if own.is_some_and(|o| o.owner == *host) && vm.is_some_and(|v| v.desired == facts.state) {
            "restore-confirmed"
        } else {
            "restore-found"
        };
    let note = Note::by(host, word).detail(format!(
        "it is {} on {host}, epoch {epoch}; the backup said {}",
        facts.state,
        said(vm, own)
    ));
    Some((made, confirmed, note))
}

/// No host has a QEMU of the VM, and every known host has been heard: it is stopped,
/// and nobody starts it but a user.
pub fn missing(vm: &mut Vm, own: &mut Ownership, now: Incarnation) -> Note {
    let before = said(Some(vm), Some(own));
    let word =
        if vm.desired == RunState::Stopped { "restore-confirmed" } else { "restore-missing" };
    vm.desired = RunState::Stopped;
    own.epoch = own.epoch.next();
    own.incarnation = now;
    own.attempt = None;
    own.settled = true;
    Note::by("controller", word).detail(format!("no host has it; the backup said {before}"))
}

/// Ends the attempt that held the VM's slot, once it is known where the VM is.
pub fn close(attempt: &mut Attempt, owner: &HostId, reason: Option<String>) {
    let record = &mut attempt.record;
    if record.report.outcome.is_none() {
        let moved = *owner == record.to;
        record.report.outcome = Some(if moved { Outcome::Completed } else { Outcome::Failed });
        record.report.reason = Some(reason.unwrap_or_else(|| REASON.to_owned()));
    }
    attempt.source_ended = true;
    attempt.record.phase = AttemptPhase::Done;
}

fn said(vm: Option<&Vm>, own: Option<&Ownership>) -> String {
    match (vm, own) {
        (None, _) => "nothing of it".to_owned(),
        (Some(vm), None) => format!("that it is {} and was never started", vm.desired),
        (Some(vm), Some(own)) => {
            format!("that it is {} on {}, epoch {}", vm.desired, own.owner, own.epoch)
        }
    }
}
