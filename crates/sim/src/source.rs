//! The source's side of an attempt, performed.

use std::collections::VecDeque;
use std::time::Duration;

use agent::core::{self, OutgoingCore, Told};
use api::body::AttemptPatch;
use handoff::source::{Action, Seen, Stage};
use handoff::verdict;
use types::{AttemptId, AttemptPhase, Side};

use crate::agent::{Agent, Input, Want, Work, link_of};
use crate::controller::{Reply, Request};
use crate::host::{Does, Migration};
use crate::world::{Link, LinkStep, Order, World};

pub(crate) struct Outgoing {
    pub(crate) id: AttemptId,
    pub(crate) core: OutgoingCore,
    /// It has the carrier's ear.
    carrier: bool,
    /// Everything is done but for the last events and the journal.
    finishing: bool,
    watching: bool,
}

impl Agent {
    fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.work {
            Work::Source(side) => Some(side),
            _ => None,
        }
    }
}

impl World {
    fn clock(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn side(&mut self, host: usize) -> Option<&mut Outgoing> {
        self.agent(host)?.outgoing()
    }

    pub(crate) fn source_begins(&mut self, host: usize, id: AttemptId) {
        let Some(to) = self.agent(host).and_then(|a| {
            a.told.attempts.iter().find(|t| t.record.id == id).map(|t| t.record.to.clone())
        }) else {
            return;
        };
        let paused = self.look(host) != core::Qemu::Running;
        if let Some(agent) = self.agent(host) {
            agent.record.begin_outgoing(id, to, paused);
        }
        if self.save(host).is_err() {
            if let Some(agent) = self.agent(host) {
                agent.record.outgoing = None;
            }
            return self.input(host, 1000, Input::Wake);
        }
        self.source_runs(host, Stage::Preparing, 0, None);
    }

    pub(crate) fn source_resumes(&mut self, host: usize) {
        let Some(out) = self.agent(host).and_then(|a| a.record.outgoing.clone()) else { return };
        self.source_runs(host, out.stage, out.seq + 1000, Some(Seen::Restarted));
    }

    fn source_runs(&mut self, host: usize, stage: Stage, seq: u64, first: Option<Seen>) {
        let (gated, clock) = (self.gated, self.clock());
        let core = OutgoingCore::new(stage, gated, clock);
        let deadline = core.deadline();
        let Some(agent) = self.agent(host) else { return };
        let Some(id) = agent.record.outgoing.as_ref().map(|o| o.attempt) else { return };
        agent.seq = seq;
        let ended = core.ended();
        agent.work = Work::Source(Box::new(Outgoing {
            id,
            core,
            carrier: false,
            finishing: false,
            watching: false,
        }));
        self.deadline_at(host, id, deadline);
        if ended {
            return self.source_finishes(host);
        }
        if let Some(seen) = first {
            self.source_feed(host, vec![seen]);
        }
        self.source_told(host);
        self.sync(host);
    }

    pub(crate) fn deadline_at(&mut self, host: usize, id: AttemptId, at: Duration) {
        let at = at.as_millis() as u64;
        self.input(host, at.saturating_sub(self.now), Input::Deadline(id));
    }

    /// The controller's newest word.
    pub(crate) fn source_told(&mut self, host: usize) {
        let Some(agent) = self.agent(host) else { return };
        let Work::Source(side) = &mut agent.work else { return };
        let Some(intent) = agent.told.attempts.iter().find(|t| t.record.id == side.id) else {
            return;
        };
        let (mut seen, told) = side.core.intent(intent, side.carrier);
        let id = side.id;
        seen.extend(self.now_or_later(host, id, told));
        self.source_feed(host, seen);
    }

    fn now_or_later(&mut self, host: usize, id: AttemptId, told: Told) -> Option<Seen> {
        match told {
            Told::Nothing => None,
            Told::Now(seen) => Some(seen),
            Told::Later(seen, after) => {
                self.input(host, after.as_millis() as u64, Input::Later(id, seen));
                None
            }
        }
    }

    pub(crate) fn source_feed(&mut self, host: usize, seen: Vec<Seen>) {
        let mut queue: VecDeque<Seen> = seen.into();
        while let Some(seen) = queue.pop_front() {
            let clock = self.clock();
            let Some(side) = self.side(host) else { return };
            if side.finishing {
                return;
            }
            let before = side.core.deadline();
            self.tell(|| format!("         {host}: source sees {seen:?}"));
            let Some(side) = self.side(host) else { return };
            let actions = side.core.on(seen, clock);
            let (id, after) = (side.id, side.core.deadline());
            if after != before {
                self.deadline_at(host, id, after);
            }
            for action in actions {
                self.may_fail_between(host);
                self.tell(|| format!("         {host}: {action:?}"));
                match self.source_performs(host, action, &mut queue) {
                    Some(Ok(())) => {}
                    Some(Err(failed)) => {
                        queue.push_front(failed);
                        if matches!(queue[0], Seen::NotJournalled(_)) {
                            let rest = Input::SourceFeed(id, queue.into());
                            return self.breathe(host, rest);
                        }
                        break;
                    }
                    None => return,
                }
            }
            if self.side(host).is_some_and(|s| s.core.ended()) {
                return self.source_finishes(host);
            }
        }
    }

    /// None: the agent is no more.
    fn source_performs(
        &mut self,
        host: usize,
        action: Action,
        queue: &mut VecDeque<Seen>,
    ) -> Option<Result<(), Seen>> {
        let id = self.side(host)?.id;
        let number = link_of(id);
        match action {
            Action::Journal(stage) => return self.source_journals(host, id, stage),
            Action::BeginCopy => return Some(self.begin_copy(host, id)),
            Action::Hold => queue.push_back(Seen::Held),
            Action::Ask => self.want(host, Want::Fresh, Request::Intent(id)),
            Action::Stop => self.order_own(host, Order::Stop),
            Action::Tail => self.tail(number),
            Action::TellStopped => self.note(number, host, Input::NoteStopped(number)),
            Action::Watch => self.watch(host, id),
            Action::EndCopy { reason } => {
                let patch = AttemptPatch { abort: Some(reason), ..AttemptPatch::default() };
                self.post(host, id, Side::Source, "ending", patch);
                self.side(host)?.carrier = false;
                self.break_link(number);
            }
            Action::Reassert => self.want(host, Want::ReadToReassert, Request::Intent(id)),
            Action::Resume => self.order_own(host, Order::Resume),
            Action::Release => {
                let instance = self.agent(host)?.record.instance;
                if let Some(instance) = instance {
                    self.hosts[host].qemus.remove(&instance);
                }
                self.break_link(number);
                queue.push_back(Seen::Gone);
            }
            Action::Alarm(what) => self.oracle.breaks(self.now, format!("I5: alarm: {what}")),
            Action::Unhold => {
                let after = self.chance.between(20, 200);
                self.input(host, after, Input::Converged(id));
            }
            Action::Finish => {}
        }
        Some(Ok(()))
    }

    fn order_own(&mut self, host: usize, order: Order) {
        let Some(instance) = self.agent(host).and_then(|a| a.record.instance) else {
            return self.input(host, 1, Input::Done(order, 0, Does::Dead));
        };
        if !self.hosts[host].qemus.get(&instance).is_some_and(crate::host::Qemu::alive) {
            return self.input(host, 1, Input::Done(order, instance, Does::Dead));
        }
        self.order(host, instance, order);
    }

    fn source_journals(
        &mut self,
        host: usize,
        id: AttemptId,
        stage: Stage,
    ) -> Option<Result<(), Seen>> {
        if stage == Stage::Handing {
            let phase = Some(AttemptPhase::Switching);
            let patch = AttemptPatch { phase, ..AttemptPatch::default() };
            self.post(host, id, Side::Source, "handing", patch);
        }
        let agent = self.agent(host)?;
        agent.record.source_at(stage, agent.seq);
        Some(self.save(host).map_err(|()| Seen::NotJournalled("no space".into())))
    }

    fn begin_copy(&mut self, host: usize, id: AttemptId) -> Result<(), Seen> {
        let broken = || Seen::Broken("no carrier".into());
        let number = link_of(id);
        let agent = self.hosts[host].agent.as_ref().ok_or_else(broken)?;
        let out = agent.record.instance.ok_or_else(broken)?;
        let intent = agent.told.attempts.iter().find(|t| t.record.id == id);
        let to = intent.map(|t| t.record.to.clone()).ok_or_else(broken)?;
        let to = self.hosts.iter().position(|h| h.id == to).ok_or_else(broken)?;
        let into = self.hosts[to].agent.as_ref();
        let into = into.and_then(|a| a.record.incoming.as_ref()).filter(|i| i.attempt == id);
        let into = into.map(|i| i.instance).unwrap_or(0);
        self.links.resize_with(number + 1, || None);
        self.links[number] = Some(Link {
            from: host,
            to,
            out,
            into,
            open: true,
            connected: false,
            tail: false,
            loading: false,
        });
        if let Some(side) = self.side(host) {
            side.carrier = true;
        }
        let after = self.chance.between(2, 30);
        self.link(number, after, LinkStep::Connect);
        let patch = AttemptPatch { phase: Some(AttemptPhase::Copying), ..AttemptPatch::default() };
        self.post(host, id, Side::Source, "copying", patch);
        Ok(())
    }

    fn watch(&mut self, host: usize, id: AttemptId) {
        let Some(side) = self.side(host) else { return };
        if !std::mem::replace(&mut side.watching, true) {
            self.want(host, Want::Watch, Request::Intent(id));
        }
    }

    pub(crate) fn source_input(&mut self, host: usize, input: Input) {
        #[cfg(test)]
        if self.faults.careless && matches!(input, Input::Broken(_)) {
            self.order_own(host, Order::Resume);
        }
        let clock = self.clock();
        let Some(side) = self.side(host) else { return };
        let (id, number) = (side.id, link_of(side.id));
        let stage = side.core.stage();
        let seen = match input {
            Input::Connected(n) if n == number && side.carrier => {
                let after = self.chance.between(30, 400);
                self.input(host, after, Input::Converged(id));
                self.input(host, 20, Input::Poll(id));
                None
            }
            Input::Converged(i) if i == id => {
                if stage == Stage::Copying {
                    let after = self.chance.between(200, 2_000);
                    self.input(host, after, Input::Converged(id));
                }
                Some(Seen::Converged)
            }
            Input::Broken(n) if n == number && side.carrier => {
                side.core.carrier_failed("connection lost".into())
            }
            Input::StoppedItself(n) if n == number && stage == Stage::Copying => {
                Some(Seen::StoppedItself)
            }
            Input::NoteRefused(n) if n == number && side.carrier => {
                Some(Seen::Refused("refused".into()))
            }
            Input::NoteRunning(n) if n == number && side.carrier => side.core.running(),
            Input::Later(i, seen) if i == id => Some(seen),
            Input::Deadline(i) if i == id => {
                if side.core.deadline() > clock {
                    return;
                }
                let seen = side.core.overdue(clock);
                let at = side.core.deadline();
                self.deadline_at(host, id, at);
                seen
            }
            Input::Poll(i) if i == id => return self.poll(host, id),
            Input::Watch(i) if i == id => {
                return self.want(host, Want::Watch, Request::Intent(id));
            }
            Input::Done(Order::Stop, _, does) => {
                self.load_if_stopped(number);
                Some(self.stopped(host, does))
            }
            Input::Done(Order::Resume, ..) => Some(Seen::Resumed),
            Input::SourceFeed(i, seen) if i == id => return self.source_feed(host, seen),
            Input::Again(i) if i == id => return self.source_finishes(host),
            Input::Died(_) if self.look(host) == core::Qemu::Dead => {
                Some(Seen::Broken("the source's QEMU ended".into()))
            }
            _ => None,
        };
        self.source_feed(host, seen.into_iter().collect());
    }

    /// What a `stop` has found.
    fn stopped(&self, host: usize, does: Does) -> Seen {
        let instance = self.hosts[host].agent.as_ref().and_then(|a| a.record.instance);
        let migration = instance.and_then(|i| self.hosts[host].qemus.get(&i)).map(|q| q.migration);
        match does {
            Does::Dead => Seen::Broken("the source's QEMU did not stop".into()),
            Does::Completes => Seen::StoppedItself,
            _ if !self.gated && migration == Some(Migration::Completed) => Seen::StoppedItself,
            _ => Seen::Stopped,
        }
    }

    /// QEMU is asked how its migration goes.
    fn poll(&mut self, host: usize, id: AttemptId) {
        let instance = self.agent(host).and_then(|a| a.record.instance);
        let migration = instance.and_then(|i| self.hosts[host].qemus.get(&i)).map(|q| q.migration);
        let status = match migration {
            Some(Migration::Completed) => "completed",
            Some(Migration::Failed) => "failed",
            _ => "active",
        };
        let Some(side) = self.side(host) else { return };
        let seen = side.core.migration(status, None);
        let goes_on = matches!(side.core.stage(), Stage::Copying | Stage::Handing);
        if goes_on && status == "active" {
            self.input(host, 25, Input::Poll(id));
        }
        self.source_feed(host, seen.into_iter().collect());
    }

    pub(crate) fn source_reply(&mut self, host: usize, want: Want, reply: Reply) {
        let Some(side) = self.side(host) else { return };
        let id = side.id;
        let seen = match (want, reply) {
            (Want::Fresh, Reply::Intent(intent)) => {
                Some(Seen::Answer(verdict(&intent.ownership, &intent.record)))
            }
            (Want::Watch, Reply::Intent(intent)) => {
                let verdict = verdict(&intent.ownership, &intent.record);
                let told = if side.core.running_seen() {
                    Told::Now(Seen::Record(verdict))
                } else {
                    side.core.record(verdict, side.carrier)
                };
                if verdict != (handoff::Verdict::Claimed { settled: true }) {
                    let after = self.chance.between(20, 500);
                    self.input(host, after, Input::Watch(id));
                }
                self.now_or_later(host, id, told)
            }
            (Want::ReadToReassert, Reply::Intent(intent)) => match core::reassert(&intent) {
                Ok(request) => {
                    return self.want(host, Want::Reassert, Request::Reassert(request));
                }
                Err(seen) => Some(seen),
            },
            (Want::Reassert, Reply::Done) => Some(Seen::Reasserted),
            // It compared unequal: it is read again.
            (Want::Reassert, _) => {
                return self.want(host, Want::ReadToReassert, Request::Intent(id));
            }
            _ => None,
        };
        self.source_feed(host, seen.into_iter().collect());
    }

    /// The part is over: the last event, then the journal.
    fn source_finishes(&mut self, host: usize) {
        let Some(side) = self.side(host) else { return };
        let (id, again) = (side.id, std::mem::replace(&mut side.finishing, true));
        if again {
            return self.source_flushed(host);
        }
        let patch = AttemptPatch { source_ended: Some(true), ..AttemptPatch::default() };
        self.post(host, id, Side::Source, "ended", patch);
    }

    /// Every event is recorded.
    pub(crate) fn source_flushed(&mut self, host: usize) {
        let Some(side) = self.side(host) else { return };
        let id = side.id;
        if !side.finishing {
            return;
        }
        let Some(agent) = self.agent(host) else { return };
        let outgoing = agent.record.outgoing.clone();
        agent.record.source_over();
        if self.save(host).is_err() {
            if let Some(agent) = self.agent(host) {
                agent.record.outgoing = outgoing;
            }
            return self.input(host, 1000, Input::Again(id));
        }
        self.ask_no_more(host);
        if let Some(agent) = self.agent(host) {
            agent.work = Work::Idle;
        }
        self.changed(host);
    }
}
