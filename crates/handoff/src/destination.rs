//! The side the VM goes to.

use serde::{Deserialize, Serialize};

use crate::Verdict;
use crate::guard::Guard;

/// How far the destination is; journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Memory, taps, QEMU and carrier are being made.
    Preparing,
    /// Memory arrives.
    Receiving,
    /// Everything is loaded and a claim may have been sent.
    Claiming,
    /// The record names this host; the VM is or may be executing here.
    Activating,
    /// Decided before any claim: this attempt will never be claimed.
    Refused,
    /// Claimed, but QEMU died before it executed anything.
    GivingBack,
    /// Over; the VM is here.
    Settled,
    /// Over; the VM is not here.
    Ended,
}

/// What the destination observes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen {
    /// QEMU and carrier wait for the source.
    Prepared,
    /// Preparation, QEMU, carrier or connection failed.
    Failed(String),
    /// The source's agent says that the VM is stopped and cannot resume by itself.
    ToldStopped,
    /// QEMU has loaded everything and rests.
    Loaded,
    /// Every page is placed and placement is closed (or nothing was placed directly).
    Sealed,
    /// RAM digest and registers of both sides were compared.
    Compared {
        /// They were equal.
        equal: bool,
    },
    /// The record says that the attempt must end.
    Abort(String),
    /// The claim succeeded.
    Claimed,
    /// The claim compared unequal; this is what the record says.
    NotClaimed(Verdict),
    /// QEMU's process is gone.
    QemuDied,
    /// The VM is in the run state it had on the source.
    Started,
    /// RUNNING is recorded.
    Settled,
    /// Settling compared unequal: the VM has been given to another host meanwhile,
    /// because this one was held to be dead.
    NotSettled,
    /// The VM is recorded as the source's again.
    GivenBack,
    /// Giving back compared unequal; this is what the record says.
    NotGivenBack(Verdict),
    /// [`Action::End`] is done.
    Gone,
    /// The agent restarted; the machine was made from the journal.
    Restarted {
        /// The incoming QEMU lives.
        alive: bool,
    },
    /// [`Action::Journal`] failed; nothing that was to follow it has been done.
    NotJournalled(String),
}

/// What the destination is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the stage durable before anything that follows.
    Journal(Stage),
    /// Make memory, taps, QEMU and carrier.
    Prepare,
    /// Record where the carrier listens.
    TellReady,
    /// Compute the RAM digest and registers and compare them with the source's.
    Compare,
    /// Compare-and-swap the record; retried until answered.
    Claim,
    /// Execute the VM, or leave it paused if it was paused on the source; announce it.
    Start,
    /// Tell the source's agent that the VM runs.
    TellRunning,
    /// Record that the VM runs; retried until answered.
    Settle,
    /// Tell the source's agent and the record that this attempt will never be claimed.
    TellRefused(String),
    /// Compare-and-swap the record back to the source; retried until answered.
    GiveBack,
    /// The incoming QEMU is from now on the VM's.
    Adopt,
    /// End QEMU and carrier and give everything back.
    End,
    /// The record contradicts what this host did: touch nothing, call for a person.
    Alarm(String),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    stage: Stage,
    verify: bool,
    told_stopped: bool,
    loaded: bool,
    sealed: bool,
    comparing: bool,
    dead: bool,
}

impl Destination {
    /// A machine at `stage`; with `verify` nothing is claimed before RAM and
    /// registers of both sides compared equal.
    pub fn new(stage: Stage, verify: bool) -> Self {
        Self {
            stage,
            verify,
            told_stopped: false,
            loaded: false,
            sealed: false,
            comparing: false,
            dead: false,
        }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Nothing is left to do.
    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Settled | Stage::Ended)
    }

    /// It knows that QEMU is dead.
    #[cfg(test)]
    pub(crate) fn knows_dead(&self) -> bool {
        self.dead
    }

    /// Begins a new attempt.
    pub fn begin(&self) -> Vec<Action> {
        vec![Action::Journal(Stage::Preparing), Action::Prepare]
    }

    /// Takes an observation, returns what is to be done.
    pub fn on(&mut self, seen: Seen) -> Vec<Action> {
        match self.stage {
            Stage::Preparing | Stage::Receiving => self.unclaimed(seen),
            Stage::Claiming => self.claiming(seen),
            Stage::Activating => self.activating(&seen),
            Stage::GivingBack => self.giving_back(&seen),
            Stage::Refused => self.refused(seen),
            Stage::Settled | Stage::Ended => Vec::new(),
        }
    }

    fn journal(&mut self, stage: Stage) -> Action {
        self.stage = stage;
        Action::Journal(stage)
    }

    fn unclaimed(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::Prepared if self.stage == Stage::Preparing => {
                return vec![self.journal(Stage::Receiving), Action::TellReady];
            }
            Seen::ToldStopped => self.told_stopped = true,
            Seen::Loaded => self.loaded = true,
            Seen::Sealed => self.sealed = true,
            Seen::Compared { equal: true } if self.complete() => return self.claim(),
            Seen::Compared { equal: false } => {
                return self.refuse("RAM or registers differed from the source's".into());
            }
            Seen::Failed(why) | Seen::Abort(why) | Seen::NotJournalled(why) => {
                return self.refuse(why);
            }
            Seen::QemuDied => return self.refuse("the destination's QEMU ended".into()),
            Seen::Restarted { .. } => {
                return self.refuse("the destination's agent restarted".into());
            }
            _ => return Vec::new(),
        }
        if !self.complete() || self.stage != Stage::Receiving || self.comparing {
            return Vec::new();
        }
        if self.verify {
            self.comparing = true;
            return vec![Action::Compare];
        }
        self.claim()
    }

    /// Everything is here, and nothing of it can change any more.
    fn complete(&self) -> bool {
        Guard::ClaimWhenTold.holds(self.told_stopped)
            && Guard::ClaimWhenLoaded.holds(self.loaded)
            && Guard::ClaimWhenSealed.holds(self.sealed)
    }

    /// From here on only the record refuses.
    fn claim(&mut self) -> Vec<Action> {
        self.stage = Stage::Claiming;
        let ahead = Guard::ClaimingAhead.stands().then_some(Action::Journal(Stage::Claiming));
        ahead.into_iter().chain([Action::Claim]).collect()
    }

    fn refuse(&mut self, why: String) -> Vec<Action> {
        vec![self.journal(Stage::Refused), Action::TellRefused(why), Action::End]
    }

    fn claiming(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::QemuDied => {
                self.dead = true;
                Vec::new()
            }
            Seen::Restarted { alive } => {
                self.dead = !alive;
                vec![Action::Claim]
            }
            // Not sent yet.
            Seen::NotJournalled(why) => self.refuse(why),
            Seen::Failed(why) | Seen::Abort(why) if !Guard::NoRefusalAfterClaim.stands() => {
                self.refuse(why)
            }
            Seen::Claimed => self.claimed(),
            Seen::NotClaimed(verdict) => self.not_claimed(verdict),
            _ => Vec::new(),
        }
    }

    fn claimed(&mut self) -> Vec<Action> {
        if self.dead && Guard::DeadGivesBack.stands() {
            return vec![self.journal(Stage::GivingBack), Action::GiveBack];
        }
        self.activate()
    }

    fn not_claimed(&mut self, verdict: Verdict) -> Vec<Action> {
        match verdict {
            Verdict::Claimed { settled: false } => self.claimed(),
            Verdict::Foreign => vec![Action::Alarm(
                "the record does not know this attempt; its copy stays paused".into(),
            )],
            _ if Guard::NotClaimedStays.stands() => {
                self.refuse("the record had moved on when it was claimed".into())
            }
            _ => self.claimed(),
        }
    }

    /// From here on the VM may have executed.
    fn activate(&mut self) -> Vec<Action> {
        self.stage = Stage::Activating;
        let ahead = Guard::ActivatingAhead.stands().then_some(Action::Journal(Stage::Activating));
        ahead.into_iter().chain([Action::Start]).collect()
    }

    fn activating(&mut self, seen: &Seen) -> Vec<Action> {
        match seen {
            Seen::Restarted { alive: true } => vec![Action::Start],
            Seen::NotJournalled(_) => self.activate(),
            // It may have executed: this is a crash of the VM here, never a way back.
            Seen::QemuDied | Seen::Restarted { alive: false } => {
                self.dead = true;
                if Guard::ExecutedStays.stands() {
                    vec![Action::Settle]
                } else {
                    vec![self.journal(Stage::GivingBack), Action::GiveBack]
                }
            }
            Seen::Started => vec![Action::TellRunning, Action::Settle],
            Seen::Settled => vec![Action::Adopt, self.journal(Stage::Settled)],
            Seen::NotSettled if self.dead => vec![self.journal(Stage::Refused), Action::End],
            // The copy is an ordinary one now, of a VM that is another host's.
            Seen::NotSettled => vec![
                Action::Alarm("the VM was given to another host while it was started here".into()),
                Action::Adopt,
                self.journal(Stage::Settled),
            ],
            _ => Vec::new(),
        }
    }

    fn giving_back(&mut self, seen: &Seen) -> Vec<Action> {
        match seen {
            Seen::Restarted { .. } | Seen::NotJournalled(_) => vec![Action::GiveBack],
            // The last: this host was held to be dead, and the VM started elsewhere.
            Seen::GivenBack
            | Seen::NotGivenBack(
                Verdict::GivenBack
                | Verdict::Kept
                | Verdict::Superseded
                | Verdict::Claimed { settled: true },
            ) => vec![self.journal(Stage::Refused), Action::End],
            Seen::NotGivenBack(_) => {
                vec![Action::Alarm("the record contradicts a VM that was given back".into())]
            }
            _ => Vec::new(),
        }
    }

    fn refused(&mut self, seen: Seen) -> Vec<Action> {
        match seen {
            Seen::Restarted { .. } => {
                vec![Action::TellRefused("the destination's agent restarted".into()), Action::End]
            }
            // The journal may hold that a claim was on its way, so nobody may rely on a
            // refusal; the source loses its connection and asks the record.
            Seen::NotJournalled(_) => vec![Action::End],
            Seen::Gone => vec![self.journal(Stage::Ended)],
            _ => Vec::new(),
        }
    }
}
