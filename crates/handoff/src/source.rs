//! The side the VM leaves.

use serde::{Deserialize, Serialize};

use crate::Verdict;

/// How far the source is; journalled, so that a restarted agent goes on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Waiting for the destination. Nothing has been touched.
    Preparing,
    /// Memory is copied; the VM runs; the destination cannot claim.
    Copying,
    /// The VM is or may be stopped and the destination may have been told.
    Handing,
    /// Decided: the VM stays. Its processors go on, the record is put in order.
    Keeping,
    /// Decided: the VM is settled on the destination. What is left here ends.
    Releasing,
    /// Over; the VM stayed.
    Kept,
    /// Over; the VM left.
    Released,
}

/// What the source observes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The destination listens.
    DestinationReady,
    /// Little enough is left for the switchover.
    Converged,
    /// The carrier has stopped reading from QEMU.
    Held,
    /// A fresh answer of the store to [`Action::Ask`].
    Answer(Verdict),
    /// The store did not answer within its budget.
    NoAnswer,
    /// After [`Action::Stop`]: the VM rests and QEMU had not completed before,
    /// so that it will not resume by itself.
    Stopped,
    /// QEMU stopped the VM by itself to complete; it would also resume it by itself.
    StoppedItself,
    /// QEMU's migration has completed; it will not resume by itself any more.
    Completed,
    /// QEMU, a carrier or the connection failed.
    Broken(String),
    /// The destination has durably refused and will never claim.
    Refused(String),
    /// The record says that the attempt must end.
    Abort(String),
    /// The verdict is overdue.
    Overdue,
    /// The compare-and-swap of [`Action::Reassert`] succeeded.
    Reasserted,
    /// It compared unequal; this is what the record says.
    NotReasserted(Verdict),
    /// What the record says (polled while handing).
    Record(Verdict),
    /// [`Action::Resume`] is done: the VM is in the run state it had before.
    Resumed,
    /// [`Action::Release`] is done: QEMU is dead, its resources are gone.
    Gone,
    /// The agent restarted; the machine was made from the journal.
    Restarted,
}

/// What the source is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the stage durable before anything that follows.
    Journal(Stage),
    /// Start carrier and migration.
    BeginCopy,
    /// Let the carrier stop reading (QEMU without the acknowledgement gate).
    Hold,
    /// Let the carrier read on.
    Unhold,
    /// Read the record afresh, within the store's budget.
    Ask,
    /// Stop the VM and look who stopped it: `Stopped`, `StoppedItself` or `Completed`.
    Stop,
    /// The VM is stopped: take the rest as fast as QEMU writes.
    Tail,
    /// Tell the destination that the VM is stopped and cannot resume by itself.
    TellStopped,
    /// Poll the record until it is decided.
    Watch,
    /// Cancel QEMU's migration and end the carrier.
    EndCopy {
        /// Why, for people.
        reason: String,
    },
    /// Compare-and-swap the record so that no claim can succeed; retried until answered.
    Reassert,
    /// Put the VM back into the run state it had before the attempt.
    Resume,
    /// End QEMU and give its resources back.
    Release,
    /// Report that the source's part is over.
    Finish,
    /// The record contradicts what this host did: touch nothing, call for a person.
    Alarm(String),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    stage: Stage,
    /// QEMU can be kept from switching over by itself.
    gated: bool,
    asking: bool,
    told: bool,
    reasserting: bool,
    resumed: bool,
    reasserted: bool,
}

impl Source {
    /// A machine at `stage`; `gated` if QEMU offers the acknowledgement gate.
    pub fn new(stage: Stage, gated: bool) -> Self {
        Self {
            stage,
            gated,
            asking: false,
            told: false,
            reasserting: false,
            resumed: false,
            reasserted: false,
        }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Nothing is left to do.
    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Kept | Stage::Released)
    }

    /// Takes an observation, returns what is to be done.
    pub fn on(&mut self, seen: Seen) -> Vec<Action> {
        match self.stage {
            Stage::Preparing | Stage::Copying => self.undecided(seen),
            Stage::Handing => self.handing(seen),
            Stage::Keeping => self.keeping(seen),
            Stage::Releasing => self.releasing(&seen),
            Stage::Kept | Stage::Released => Vec::new(),
        }
    }

    fn journal(&mut self, stage: Stage) -> Action {
        self.stage = stage;
        Action::Journal(stage)
    }

    /// Before the hand-over: whatever goes wrong, the VM simply stays.
    fn undecided(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::DestinationReady if self.stage == Stage::Preparing => {
                vec![self.journal(Stage::Copying), Action::BeginCopy]
            }
            Seen::Converged if self.stage == Stage::Copying && !self.asking => {
                self.asking = true;
                vec![if self.gated { Action::Ask } else { Action::Hold }]
            }
            Seen::Held if self.asking => vec![Action::Ask],
            Seen::Answer(Verdict::Undecided { aborted: false }) if self.asking => {
                vec![self.journal(Stage::Handing), Action::Stop]
            }
            Seen::Answer(_) if self.asking => self.keep("the attempt was ended".into()),
            Seen::NoAnswer if self.asking => {
                self.asking = false;
                if self.gated { Vec::new() } else { vec![Action::Unhold] }
            }
            Seen::StoppedItself => vec![self.journal(Stage::Handing), Action::Tail, Action::Watch],
            Seen::Completed => {
                self.told = true;
                vec![self.journal(Stage::Handing), Action::Tail, Action::TellStopped, Action::Watch]
            }
            Seen::Broken(why) | Seen::Refused(why) | Seen::Abort(why) => self.keep(why),
            Seen::Restarted => self.keep("the source's agent restarted".into()),
            _ => Vec::new(),
        }
    }

    /// The destination cannot claim any more, or never could.
    fn keep(&mut self, reason: String) -> Vec<Action> {
        vec![
            self.journal(Stage::Keeping),
            Action::EndCopy { reason },
            Action::Resume,
            Action::Reassert,
        ]
    }

    fn handing(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::Stopped if !self.told => {
                self.told = true;
                vec![Action::Tail, Action::TellStopped, Action::Watch]
            }
            Seen::StoppedItself if !self.told => vec![Action::Tail, Action::Watch],
            Seen::Completed if !self.told => {
                self.told = true;
                vec![Action::Tail, Action::TellStopped, Action::Watch]
            }
            Seen::Refused(why) => self.keep(why),
            Seen::Broken(_) | Seen::Abort(_) | Seen::Overdue | Seen::Restarted => self.reassert(),
            Seen::Reasserted => {
                self.reasserted = true;
                vec![
                    self.journal(Stage::Keeping),
                    Action::EndCopy { reason: "the source kept the VM".into() },
                    Action::Resume,
                ]
            }
            Seen::NotReasserted(verdict) => {
                self.reasserting = false;
                let mut actions = self.read(verdict);
                if actions.is_empty() {
                    actions.push(Action::Watch);
                }
                actions
            }
            Seen::Record(verdict) => self.read(verdict),
            _ => Vec::new(),
        }
    }

    fn reassert(&mut self) -> Vec<Action> {
        if std::mem::replace(&mut self.reasserting, true) {
            return Vec::new();
        }
        vec![Action::Reassert]
    }

    fn read(&mut self, verdict: Verdict) -> Vec<Action> {
        match verdict {
            Verdict::Claimed { settled: true } | Verdict::Overruled => {
                vec![self.journal(Stage::Releasing), Action::Release]
            }
            Verdict::GivenBack => self.reassert(),
            Verdict::Undecided { aborted: true } => self.reassert(),
            Verdict::Undecided { aborted: false } | Verdict::Claimed { settled: false } => {
                Vec::new()
            }
            Verdict::Kept => {
                self.reasserted = true;
                vec![
                    self.journal(Stage::Keeping),
                    Action::EndCopy { reason: "the record says that the VM stayed".into() },
                    Action::Resume,
                ]
            }
            Verdict::Foreign => {
                vec![Action::Alarm("the record does not know this attempt; it stays paused".into())]
            }
        }
    }

    fn keeping(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::Restarted => vec![
                Action::EndCopy { reason: "the source's agent restarted".into() },
                Action::Resume,
                Action::Reassert,
            ],
            Seen::Resumed => {
                self.resumed = true;
                self.kept()
            }
            Seen::Reasserted | Seen::NotReasserted(Verdict::Kept) => {
                self.reasserted = true;
                self.kept()
            }
            Seen::NotReasserted(Verdict::Undecided { .. } | Verdict::GivenBack) => {
                vec![Action::Reassert]
            }
            Seen::NotReasserted(_) => {
                self.reasserted = true;
                let mut actions =
                    vec![Action::Alarm("the record gives a VM that stayed to another".into())];
                actions.extend(self.kept());
                actions
            }
            _ => Vec::new(),
        }
    }

    fn kept(&mut self) -> Vec<Action> {
        if !(self.resumed && self.reasserted) {
            return Vec::new();
        }
        vec![self.journal(Stage::Kept), Action::Finish]
    }

    fn releasing(&mut self, seen: &Seen) -> Vec<Action> {
        match seen {
            Seen::Restarted => vec![Action::Release],
            Seen::Gone => vec![self.journal(Stage::Released), Action::Finish],
            _ => Vec::new(),
        }
    }
}
