//! What the agent journals of a VM, always before it acts on it.

use api::body::Ended;
use handoff::{destination, source};
use serde::{Deserialize, Serialize};
use types::{AttemptId, HostId, Ownership, VmId};
use vmm::InstanceRecord;

/// Format of the journal's files.
pub(crate) const VERSION: u32 = 1;

/// Everything this host knows about one VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VmRecord {
    /// Format.
    pub(crate) version: u32,
    /// The VM.
    pub(crate) vm: VmId,
    /// Its QEMU here, which may be dead.
    pub(crate) instance: Option<InstanceRecord>,
    /// The newest start generation acted on.
    pub(crate) start_generation: u64,
    /// The newest request to go on after an error that was acted on.
    #[serde(default)]
    pub(crate) resumes: u64,
    /// How its last QEMU ended, if nobody asked for that.
    #[serde(default)]
    pub(crate) ended: Option<Ended>,
    /// A migration away from here.
    pub(crate) outgoing: Option<Outgoing>,
    /// A migration to here.
    pub(crate) incoming: Option<Incoming>,
    /// The newest attempts that ended here; they are never begun again.
    pub(crate) last_outgoing: Option<AttemptId>,
    pub(crate) last_incoming: Option<AttemptId>,
    /// Who owns it, as the controller said last; an older word is not followed.
    #[serde(default)]
    pub(crate) known: Option<Ownership>,
}

/// The source's part of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    pub(crate) attempt: AttemptId,
    pub(crate) to: HostId,
    pub(crate) stage: source::Stage,
    /// The VM was paused before; it stays so wherever it ends up.
    pub(crate) was_paused: bool,
    /// Number of the last event posted.
    pub(crate) seq: u64,
}

/// The destination's part of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Incoming {
    pub(crate) attempt: AttemptId,
    pub(crate) stage: destination::Stage,
    pub(crate) instance: InstanceRecord,
    /// Number of the last event posted.
    pub(crate) seq: u64,
    /// Whether the VM was paused on the source; known once the source stopped it.
    pub(crate) paused: bool,
    /// Start generation that comes with the VM.
    pub(crate) start_generation: u64,
}

impl VmRecord {
    pub(crate) fn new(vm: VmId) -> Self {
        Self {
            version: VERSION,
            vm,
            instance: None,
            start_generation: 0,
            resumes: 0,
            ended: None,
            outgoing: None,
            incoming: None,
            last_outgoing: None,
            last_incoming: None,
            known: None,
        }
    }

    /// Side and stage of the attempt under way, for those who watch.
    pub(crate) fn stage(&self) -> String {
        match (&self.outgoing, &self.incoming) {
            (Some(outgoing), _) => format!("source-{:?}", outgoing.stage),
            (None, Some(incoming)) => format!("destination-{:?}", incoming.stage),
            (None, None) => "none".to_owned(),
        }
    }

    /// Nothing of the VM is left here.
    pub(crate) fn is_empty(&self) -> bool {
        self.instance.is_none() && self.outgoing.is_none() && self.incoming.is_none()
    }
}
