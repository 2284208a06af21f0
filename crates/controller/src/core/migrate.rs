//! A user begins a migration or gives it up.

use handoff::record::Change;
use types::{
    AttemptId, AttemptPhase, AttemptRecord, Code, HostId, MigrationReport, Ownership, Problem, VmId,
};

use super::{Attempt, Note, Vm};

/// A migration that passed its preflight.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id, new.
    pub id: AttemptId,
    /// The VM.
    pub vm: VmId,
    /// Where to.
    pub to: HostId,
    /// What the carriers prove to each other, in hexadecimal.
    pub secret: String,
    /// Compare RAM and registers before the claim.
    pub verify: bool,
    /// Longest blackout allowed, in milliseconds.
    pub blackout_budget_ms: u64,
    /// The VM rests.
    pub resting: bool,
    /// Who asked.
    pub user: String,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
}

/// Takes the VM's one attempt slot.
pub fn migrate(
    own: &mut Ownership,
    vm: &Vm,
    request: Request,
) -> Result<(Attempt, Vec<Note>), Problem> {
    let name = &vm.spec.name;
    let (id, from, to) = (request.id, own.owner.clone(), request.to);
    handoff::record::begin(own, id, &to).map_err(|problem| match problem.code {
        Code::SameHost => Problem::new(Code::SameHost, format!("{name} is on {to} already")),
        _ => under_way(vm),
    })?;
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
pub fn cancel(own: &Ownership, attempt: &mut Attempt, user: &str) -> Result<Vec<Note>, Problem> {
    let record = &mut attempt.record;
    let reason = format!("cancelled by {user}");
    let change = handoff::record::abort(own, record, &reason).map_err(|problem| {
        let (vm, from) = (&record.report.vm, &record.from);
        match problem.code {
            Code::NoMigration => no_migration(vm),
            _ => Problem::new(problem.code, format!("{} owns {vm} already", own.owner))
                .remedy(format!("migrate it back: `godwit migrate {vm} --to {from}`")),
        }
    })?;
    if change == Change::Already {
        // It ends anyway, for the reason that was first.
        return Ok(Vec::new());
    }
    record.cancelled = true;
    Ok(vec![Note::by(user, "cancel-requested")])
}

/// The problem of a VM that is in no migration.
pub fn no_migration(vm: &impl std::fmt::Display) -> Problem {
    Problem::new(Code::NoMigration, format!("{vm} is not being migrated"))
}

/// The problem of a VM that is in a migration.
pub(super) fn under_way(vm: &Vm) -> Problem {
    let name = &vm.spec.name;
    Problem::new(Code::MigrationUnderWay, format!("{name} is being migrated"))
        .remedy(format!("wait for it to end, or end it with `godwit cancel {name}`"))
}
