//! What the two agents do: the machines' actions, and answers to what they asked.

use super::search::{Kind, Next};
use super::store::Request;
use super::world::{Ask, Invariant, Journal, Late, Link, Qemu, Role, World};
use crate::destination::{self, Destination};
use crate::source::{self, Source};
use crate::{Verdict, destination::Seen as D, source::Seen as S};

type Ends = fn(&source::Stage) -> bool;

impl World {
    fn attempt(&self, h: usize) -> u8 {
        self.hosts[h].attempt
    }

    /// The connection, if it is of what the host does.
    fn linked(&mut self, h: usize) -> Option<&mut Link> {
        let k = self.attempt(h);
        (self.link.attempt == k && !self.link.broken).then_some(&mut self.link)
    }

    fn act_source(&mut self, h: usize, action: &source::Action) {
        use source::Action as A;
        let k = self.attempt(h);
        match action {
            A::Journal(stage) => self.hosts[h].journal = Journal::Source(*stage),
            A::BeginCopy => self.link = Link::new(k),
            A::Hold | A::Ask => self.hosts[h].asks.add(Ask::Fresh),
            A::Stop => self.hosts[h].asks.add(Ask::Stop),
            A::Tail => self.linked(h).into_iter().for_each(|l| l.tail = true),
            A::TellStopped => self.linked(h).into_iter().for_each(|l| l.told_stopped = true),
            A::EndCopy { .. } => {
                if self.link.attempt == k {
                    self.break_link();
                }
            }
            A::Reassert => self.hosts[h].asks.add(Ask::Reassert),
            A::Resume => self.hosts[h].asks.add(Ask::Resume),
            A::Release => self.hosts[h].asks.add(Ask::Release),
            A::Alarm(_) => self.breaks(Invariant::Verdict, "the source calls for a person"),
            A::Unhold | A::Watch | A::Finish => {}
        }
    }

    fn act_destination(&mut self, h: usize, action: &destination::Action) {
        use destination::Action as A;
        let k = self.attempt(h);
        let asks = &mut self.hosts[h].asks;
        match action {
            A::Journal(stage) => {
                // Died unnoticed: after this nobody can know whether it had executed.
                let unnoticed = |r: &Role| matches!(r, Role::Destination(m) if !m.knows_dead());
                self.crashed |= *stage == destination::Stage::Activating
                    && unnoticed(&self.hosts[h].role)
                    && self.hosts[h].qemu == Qemu::DiedLoaded;
                self.hosts[h].journal = Journal::Destination(*stage);
            }
            A::Prepare => asks.add(Ask::Prepare),
            A::TellReady => self.record.attempts[usize::from(k)].ready = true,
            A::Claim => asks.add(Ask::Claim),
            A::Start => asks.add(Ask::Start),
            A::Settle => asks.add(Ask::Settle),
            A::GiveBack => asks.add(Ask::GiveBack),
            A::TellRefused(_) => {
                self.linked(h).into_iter().for_each(|l| l.told_refused = true);
            }
            A::End => {
                asks.remove(Ask::Prepare);
                asks.add(Ask::End);
            }
            A::Alarm(_) => self.breaks(Invariant::Verdict, "the destination calls for a person"),
            A::Compare | A::TellRunning | A::Adopt => {}
        }
    }

    /// Whose part is over forgets it.
    fn finish(&mut self, h: usize) {
        let over = match &self.hosts[h].role {
            Role::Idle => false,
            Role::Source(machine) => machine.ended(),
            Role::Destination(machine) => machine.ended(),
        };
        if over {
            self.forget_asks(h);
            self.hosts[h].role = Role::Idle;
            self.hosts[h].journal = Journal::Idle;
        }
    }

    /// An agent starts again from its journal. What it had asked of the store may
    /// still arrive.
    pub(super) fn restart(mut self, h: usize, gated: bool) -> Self {
        self.forget_asks(h);
        match self.hosts[h].journal {
            Journal::Idle => self.hosts[h].role = Role::Idle,
            Journal::Source(stage) => {
                let mut machine = Source::new(stage, gated);
                let actions = machine.on(S::Restarted);
                self.hosts[h].role = Role::Source(machine);
                actions.iter().for_each(|action| self.act_source(h, action));
            }
            Journal::Destination(stage) => {
                let alive =
                    !matches!(self.hosts[h].qemu, Qemu::None | Qemu::Dead | Qemu::DiedLoaded);
                let mut machine = Destination::new(stage, false);
                let actions = machine.on(D::Restarted { alive });
                self.hosts[h].role = Role::Destination(machine);
                actions.iter().for_each(|action| self.act_destination(h, action));
            }
        }
        self.finish(h);
        self
    }

    pub(super) fn forget_asks(&mut self, h: usize) {
        let k = self.attempt(h);
        let in_slot = self.record.slot == Some(k);
        for ask in self.hosts[h].asks.iter().filter(|_| in_slot) {
            if let Some(late) = self.on_its_way(k, ask) {
                self.late.add(late);
            }
        }
        self.hosts[h].asks = Default::default();
    }

    /// The request that an ask has under way at the store.
    pub(super) fn on_its_way(&self, k: u8, ask: Ask) -> Option<Late> {
        match ask {
            Ask::Claim => Some(Late::Claim),
            Ask::GiveBack => Some(Late::GiveBack),
            Ask::Settle => Some(Late::Settle),
            Ask::Reassert if self.verdict(k) == Verdict::GivenBack => Some(Late::ReassertReturned),
            Ask::Reassert => Some(Late::Reassert),
            _ => None,
        }
    }
}

impl Next {
    /// All ways on after a source saw something: done, restarted after any action,
    /// the journal not written, or written and held to be not.
    pub(super) fn source_sees(&mut self, mut w: World, h: usize, seen: S, kind: Kind) {
        let name = self.source_names.of(&seen);
        let repeat: Ends = |stage| matches!(stage, source::Stage::Kept | source::Stage::Released);
        let Role::Source(machine) = &mut w.hosts[h].role else { return };
        let unchanged = machine.clone();
        let retried = matches!(seen, S::NotJournalled(_));
        let actions = machine.on(seen);
        if actions.is_empty() && *machine == unchanged {
            return self.push(kind, name, w);
        }
        for action in &actions {
            self.push(Kind::Fault, "the source's agent restarts", w.clone().restart(h, self.gated));
            if let source::Action::Journal(stage) = action
                && self.full
                && !retried
                && !repeat(stage)
            {
                let mut written = w.clone();
                written.act_source(h, action);
                let full = || S::NotJournalled("no space".into());
                self.source_sees(w.clone(), h, full(), Kind::Fault);
                self.source_sees(written, h, full(), Kind::Fault);
            }
            w.act_source(h, action);
        }
        w.finish(h);
        self.push(kind, name, w);
    }

    pub(super) fn destination_sees(&mut self, mut w: World, h: usize, seen: D, kind: Kind) {
        let name = self.destination_names.of(&seen);
        let Role::Destination(machine) = &mut w.hosts[h].role else { return };
        let unchanged = machine.clone();
        let retried = matches!(seen, D::NotJournalled(_));
        let actions = machine.on(seen);
        if actions.is_empty() && *machine == unchanged {
            return self.push(kind, name, w);
        }
        self.destination_acts(w, h, &actions, (kind, name), retried);
    }

    pub(super) fn destination_acts(
        &mut self,
        mut w: World,
        h: usize,
        actions: &[destination::Action],
        (kind, name): (Kind, &'static str),
        retried: bool,
    ) {
        use destination::Stage::{Ended, Settled};
        for action in actions {
            let again = w.clone().restart(h, self.gated);
            self.push(Kind::Fault, "the destination's agent restarts", again);
            if let destination::Action::Journal(stage) = action
                && self.full
                && !retried
                && !matches!(stage, Settled | Ended)
            {
                let mut written = w.clone();
                written.act_destination(h, action);
                let full = || D::NotJournalled("no space".into());
                self.destination_sees(w.clone(), h, full(), Kind::Fault);
                self.destination_sees(written, h, full(), Kind::Fault);
            }
            w.act_destination(h, action);
        }
        w.finish(h);
        self.push(kind, name, w);
    }

    /// What a host asked for is done, or answered, or both.
    pub(super) fn answer(&mut self, world: &World, h: usize, ask: Ask) {
        let mut w = world.clone();
        w.hosts[h].asks.remove(ask);
        let k = w.hosts[h].attempt;
        match ask {
            Ask::Fresh => {
                let verdict = w.verdict(k);
                self.source_sees(w.clone(), h, S::NoAnswer, Kind::Fault);
                self.source_sees(w, h, S::Answer(verdict), Kind::Step);
            }
            Ask::Stop | Ask::Resume | Ask::Release => self.source_does(world, w, h, ask),
            Ask::Reassert => match w.verdict(k) {
                Verdict::Undecided { .. } | Verdict::GivenBack => {
                    let epoch = w.record.epoch;
                    w.change(k, Request::Reassert(epoch));
                    self.unanswered(&w, h, ask);
                    self.source_sees(w, h, S::Reasserted, Kind::Step);
                }
                other => self.source_sees(w, h, S::NotReasserted(other), Kind::Step),
            },
            Ask::Prepare | Ask::Start | Ask::End => self.destination_does(world, w, h, ask),
            Ask::Claim => {
                let claimed = w.change(k, Request::Claim);
                self.unanswered(&w, h, ask);
                let verdict = w.verdict(k);
                let seen = if claimed { D::Claimed } else { D::NotClaimed(verdict) };
                self.destination_sees(w, h, seen, Kind::Step);
            }
            Ask::Settle => {
                let settled = w.change(k, Request::Settle);
                self.unanswered(&w, h, ask);
                let seen = if settled { D::Settled } else { D::NotSettled };
                self.destination_sees(w, h, seen, Kind::Step);
            }
            Ask::GiveBack => {
                let given = w.change(k, Request::GiveBack);
                self.unanswered(&w, h, ask);
                let verdict = w.verdict(k);
                let seen = if given { D::GivenBack } else { D::NotGivenBack(verdict) };
                self.destination_sees(w, h, seen, Kind::Step);
            }
        }
    }

    /// Done, but the answer is lost or late: it is asked again.
    fn unanswered(&mut self, w: &World, h: usize, ask: Ask) {
        let mut again = w.clone();
        again.hosts[h].asks.add(ask);
        self.push(Kind::Fault, "an answer is lost", again);
    }

    fn source_does(&mut self, world: &World, mut w: World, h: usize, ask: Ask) {
        match (ask, w.hosts[h].qemu) {
            // QEMU's monitor answers in order.
            (Ask::Resume, _) if world.hosts[h].asks.has(Ask::Stop) => return,
            (Ask::Stop, Qemu::Runs) => w.hosts[h].qemu = Qemu::Rests,
            (Ask::Resume, Qemu::Rests | Qemu::MayResume) => w.go_on(h),
            (Ask::Release, _) => w.hosts[h].qemu = Qemu::None,
            _ => {}
        }
        self.unanswered(&w, h, ask);
        let seen = match ask {
            Ask::Stop if w.hosts[h].qemu == Qemu::MayResume => S::StoppedItself,
            Ask::Stop => S::Stopped,
            Ask::Resume => S::Resumed,
            _ => S::Gone,
        };
        self.source_sees(w, h, seen, Kind::Step);
    }

    fn destination_does(&mut self, world: &World, mut w: World, h: usize, ask: Ask) {
        let seen = match ask {
            Ask::Prepare => {
                self.destination_sees(w.clone(), h, D::Failed("no memory".into()), Kind::Fault);
                if w.hosts[h].qemu == Qemu::None {
                    (w.hosts[h].qemu, w.hosts[h].sealed) = (Qemu::Loading, false);
                }
                D::Prepared
            }
            Ask::Start => {
                match world.hosts[h].qemu {
                    Qemu::Loaded => w.execute(h),
                    Qemu::Outdated => {
                        w.breaks(Invariant::Stale, "a copy starts that the source has outrun");
                    }
                    Qemu::Runs => {}
                    // QEMU refuses; it is asked until it does or dies.
                    _ => return,
                }
                D::Started
            }
            _ => {
                (w.hosts[h].qemu, w.hosts[h].sealed) = (Qemu::None, true);
                D::Gone
            }
        };
        self.unanswered(&w, h, ask);
        self.destination_sees(w, h, seen, Kind::Step);
    }
}
