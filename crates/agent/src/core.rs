//! What to do next about one VM: a pure decision from the journal, what QEMU
//! does and what the controller wants.

use api::body::{AttemptIntent, VmIntent};
use types::{AttemptId, AttemptPhase, HostId, RunState};

use crate::record::VmRecord;

/// What is seen of the VM's QEMU on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qemu {
    /// There is none, or its process has ended.
    Dead,
    /// Executing.
    Running,
    /// Resting, and `cont` would make it go on.
    Paused,
    /// Resting for a reason that is not ours to overrule (I/O error, panic, shut down).
    Halted,
}

/// Everything a decision is made from.
pub(crate) struct World<'a> {
    pub(crate) me: &'a HostId,
    pub(crate) record: &'a VmRecord,
    pub(crate) qemu: Qemu,
    /// The VM, if the record says that it is this host's.
    pub(crate) intent: Option<&'a VmIntent>,
    /// Attempts of the VM that concern this host.
    pub(crate) attempts: &'a [AttemptIntent],
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something changes.
    Wait,
    /// Start a QEMU for this start generation.
    Start(u64),
    /// Execute.
    Cont,
    /// Rest.
    Pause,
    /// End QEMU and give everything back.
    End,
    /// Go on with the outgoing attempt in the journal.
    ResumeOutgoing,
    /// Go on with the incoming attempt in the journal.
    ResumeIncoming,
    /// Begin to send.
    BeginOutgoing(AttemptId),
    /// Begin to receive.
    BeginIncoming(AttemptId),
    /// A QEMU of ours that the record gives to somebody else: hands off.
    NotOurs,
}

pub(crate) fn decide(world: &World<'_>) -> Step {
    let record = world.record;
    if record.outgoing.is_some() {
        return Step::ResumeOutgoing;
    }
    if record.incoming.is_some() {
        return Step::ResumeIncoming;
    }
    let open = |a: &&AttemptIntent| {
        a.record.phase != AttemptPhase::Done && a.record.report.outcome.is_none()
    };
    let outgoing = world.attempts.iter().find(|a| {
        open(a) && a.record.from == *world.me && record.last_outgoing < Some(a.record.id)
    });
    let incoming = world.attempts.iter().find(|a| {
        open(a)
            && a.record.to == *world.me
            && a.record.phase == AttemptPhase::Preparing
            && a.record.abort.is_none()
            && record.last_incoming < Some(a.record.id)
    });
    if record.instance.is_some() && world.qemu == Qemu::Dead {
        return Step::End;
    }
    if let (Some(_), Some(attempt)) = (world.intent, outgoing) {
        return Step::BeginOutgoing(attempt.record.id);
    }
    if let Some(intent) = world.intent {
        return owned(world, intent);
    }
    match (incoming, &record.instance) {
        // What is left of an earlier stay must be gone first.
        (_, Some(_)) => Step::NotOurs,
        (Some(attempt), None) => Step::BeginIncoming(attempt.record.id),
        (None, None) => Step::Wait,
    }
}

fn owned(world: &World<'_>, intent: &VmIntent) -> Step {
    match (intent.desired, world.qemu) {
        (RunState::Stopped, Qemu::Dead) => Step::Wait,
        (RunState::Stopped, _) => Step::End,
        (_, Qemu::Dead) if intent.start_generation > world.record.start_generation => {
            Step::Start(intent.start_generation)
        }
        (RunState::Running, Qemu::Paused) => Step::Cont,
        (RunState::Paused, Qemu::Running) => Step::Pause,
        _ => Step::Wait,
    }
}
