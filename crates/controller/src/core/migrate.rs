//! A user begins a migration or gives it up.

use types::{
    AttemptId, AttemptPhase, AttemptRecord, Code, HostId, MigrationReport, Ownership, Problem, VmId,
};

use super::{Attempt, Note, Vm};

/// A migration that passed its preflight.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its id, new.
    pub(crate) id: AttemptId,
    /// The VM.
    pub(crate) vm: VmId,
    /// Where to.
    pub(crate) to: HostId,
    /// What the carriers prove to each other, in hexadecimal.
    pub(crate) secret: String,
    /// Compare RAM and registers before the claim.
    pub(crate) verify: bool,
    /// Longest blackout allowed, in milliseconds.
    pub(crate) blackout_budget_ms: u64,
    /// The VM rests.
    pub(crate) resting: bool,
    /// Who asked.
    pub(crate) user: String,
    /// When, in milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// Takes the VM's one attempt slot.
pub(crate) fn migrate(
    own: &mut Ownership,
    vm: &Vm,
    request: Request,
) -> Result<(Attempt, Vec<Note>), Problem> {
    let name = &vm.spec.name;
    if own.attempt.is_some() || !own.settled {
        return Err(under_way(vm));
    }
    if own.owner == request.to {
        return Err(Problem::new(Code::SameHost, format!("{name} is on {} already", own.owner)));
    }
    let (id, from, to) = (request.id, own.owner.clone(), request.to);
    own.attempt = Some(id);
    let memory = vm.spec.memory.0;
    let report = MigrationReport::begun(id, name.clone(), from.clone(), to.clone(), memory);
    let note =
        Note::by(request.user, "requested").detail(format!("{from} to {to}, epoch {}", own.epoch));
    let record = AttemptRecord {
        id,
        vm: request.vm,
        from,
        to,
        epoch: own.epoch,
        incarnation: own.incarnation,
        secret: request.secret,
        verify: request.verify,
        blackout_budget_ms: request.blackout_budget_ms,
        resting: request.resting,
        destination: None,
        phase: AttemptPhase::Preparing,
        abort: None,
        cancelled: false,
        report,
    };
    let attempt = Attempt {
        record,
        requested_ms: request.now_ms,
        source_seq: 0,
        destination_seq: 0,
        source_ended: false,
    };
    Ok((attempt, vec![note]))
}

/// Asks the parties to give the attempt up; the source's reassert ends it.
pub(crate) fn cancel(
    own: &Ownership,
    attempt: &mut Attempt,
    user: &str,
) -> Result<Vec<Note>, Problem> {
    let record = &mut attempt.record;
    if record.report.outcome.is_some() {
        return Err(no_migration(&record.report.vm));
    }
    if own.owner != record.from {
        return Err(Problem::new(
            Code::TooLate,
            format!("{} owns {} already", own.owner, record.report.vm),
        )
        .remedy(format!(
            "migrate it back: `godwit migrate {} --to {}`",
            record.report.vm, record.from
        )));
    }
    if record.abort.is_some() {
        // It ends anyway, for the reason that was first.
        return Ok(Vec::new());
    }
    record.abort = Some(format!("cancelled by {user}"));
    record.cancelled = true;
    Ok(vec![Note::by(user, "cancel-requested")])
}

/// The problem of a VM that is in no migration.
pub(crate) fn no_migration(vm: &impl std::fmt::Display) -> Problem {
    Problem::new(Code::NoMigration, format!("{vm} is not being migrated"))
}

/// The problem of a VM that is in a migration.
pub(crate) fn under_way(vm: &Vm) -> Problem {
    let name = &vm.spec.name;
    Problem::new(Code::MigrationUnderWay, format!("{name} is being migrated"))
        .remedy(format!("wait for it to end, or end it with `godwit cancel {name}`"))
}
