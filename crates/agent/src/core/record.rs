//! What the agent journals of a VM, always before it acts on it.

use api::body::{AttemptIntent, Ended};
use handoff::{destination, source};
use serde::{Deserialize, Serialize};
use types::{AttemptId, Epoch, HostId, Incarnation, Ownership, VmId};
use vmm::InstanceRecord;

/// Format of the journal's files.
pub const VERSION: u32 = 1;

/// Everything this host knows about one VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmRecord<I = InstanceRecord> {
    /// Format.
    pub version: u32,
    /// The VM.
    pub vm: VmId,
    /// Its QEMU here, which may be dead.
    pub instance: Option<I>,
    /// The newest start generation acted on.
    pub start_generation: u64,
    /// A migration away from here.
    pub outgoing: Option<Outgoing>,
    /// A migration to here.
    pub incoming: Option<Incoming<I>>,
    /// The newest attempts that ended here; they are never begun again.
    pub last_outgoing: Option<AttemptId>,
    /// The same of those to here.
    pub last_incoming: Option<AttemptId>,
    /// The newest ownership of this host that has ended: what the controller said
    /// of it, or of an older one, is of an earlier stay of the VM.
    #[serde(default)]
    pub past: Option<(Incarnation, Epoch)>,
    /// The newest request to go on after an error that was acted on.
    #[serde(default)]
    pub resumes: u64,
    /// The newest press of a button that was acted on.
    #[serde(default)]
    pub pressed: u64,
    /// How its last QEMU ended, if nobody asked for that.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// The source's part of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outgoing {
    /// The attempt.
    pub attempt: AttemptId,
    /// The host the VM goes to.
    pub to: HostId,
    /// How far it is.
    pub stage: source::Stage,
    /// The VM was paused before; it stays so wherever it ends up.
    pub was_paused: bool,
    /// Number of the last event posted.
    pub seq: u64,
}

/// The destination's part of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Incoming<I = InstanceRecord> {
    /// The attempt.
    pub attempt: AttemptId,
    /// How far it is.
    pub stage: destination::Stage,
    /// The incoming QEMU.
    pub instance: I,
    /// The ownership that a claim of the attempt leads to.
    #[serde(default)]
    pub claim: (Incarnation, Epoch),
    /// Number of the last event posted.
    pub seq: u64,
    /// Whether the VM was paused on the source; known once the source stopped it.
    pub paused: bool,
    /// Start generation that comes with the VM.
    pub start_generation: u64,
}

impl<I> VmRecord<I> {
    /// Of a VM of which nothing is here.
    pub fn new(vm: VmId) -> Self {
        Self {
            version: VERSION,
            vm,
            instance: None,
            start_generation: 0,
            outgoing: None,
            incoming: None,
            last_outgoing: None,
            last_incoming: None,
            past: None,
            resumes: 0,
            pressed: 0,
            ended: None,
        }
    }

    /// Side and stage of the attempt under way, for those who watch.
    pub fn stage(&self) -> String {
        match (&self.outgoing, &self.incoming) {
            (Some(outgoing), _) => format!("source-{:?}", outgoing.stage),
            (None, Some(incoming)) => format!("destination-{:?}", incoming.stage),
            (None, None) => "none".to_owned(),
        }
    }

    /// Nothing of the VM is left here.
    pub fn is_empty(&self) -> bool {
        self.instance.is_none() && self.outgoing.is_none() && self.incoming.is_none()
    }

    /// Begins to send.
    pub fn begin_outgoing(&mut self, attempt: AttemptId, to: HostId, was_paused: bool) {
        let stage = source::Stage::Preparing;
        self.outgoing = Some(Outgoing { attempt, to, stage, was_paused, seq: 0 });
    }

    /// Begins to receive into `instance` on behalf of `attempt`.
    pub fn begin_incoming(&mut self, intent: &AttemptIntent, instance: I) {
        let stage = destination::Stage::Preparing;
        let AttemptIntent { record, start_generation, .. } = intent;
        let (attempt, start_generation) = (record.id, *start_generation);
        let claim = (record.incarnation, record.epoch.next());
        self.incoming = Some(Incoming {
            attempt,
            stage,
            instance,
            claim,
            seq: 0,
            paused: false,
            start_generation,
        });
    }

    /// The source is at `stage`, having posted `seq` events.
    pub fn source_at(&mut self, stage: source::Stage, seq: u64) {
        if stage == source::Stage::Released {
            self.instance = None;
        }
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.stage = stage;
            outgoing.seq = outgoing.seq.max(seq);
        }
    }

    /// The destination is at `stage`, having posted `seq` events.
    pub fn destination_at(&mut self, stage: destination::Stage, seq: u64) {
        if let Some(incoming) = &mut self.incoming {
            incoming.stage = stage;
            incoming.seq = incoming.seq.max(seq);
        }
    }

    /// Whether the controller's word is of the present stay of the VM.
    pub fn concerns(&self, own: &Ownership) -> bool {
        self.past < Some((own.incarnation, own.epoch))
    }

    /// The source's part is over.
    pub fn source_over(&mut self) {
        self.last_outgoing = self.outgoing.take().map(|o| o.attempt).or(self.last_outgoing);
    }
}

impl<I: Clone> VmRecord<I> {
    /// The incoming QEMU is the VM's own from now on.
    pub fn adopt(&mut self) {
        let Some(incoming) = &self.incoming else { return };
        self.start_generation = incoming.start_generation;
        self.instance = Some(incoming.instance.clone());
    }

    /// The destination's part is over; whether it settled.
    pub fn destination_over(&mut self) -> bool {
        let Some(incoming) = &self.incoming else { return false };
        let settled = incoming.stage == destination::Stage::Settled;
        if !settled {
            // Claimed perhaps, and given back.
            self.past = self.past.max(Some(incoming.claim));
        }
        if settled && self.instance.is_none() {
            // A restart between "settled" and here.
            self.adopt();
        }
        self.last_incoming = self.incoming.take().map(|i| i.attempt);
        settled
    }
}
