//! The destination's side of an attempt, performed.

use std::collections::VecDeque;
use std::time::Duration;

use agent::core::IncomingCore;
use api::body::{AttemptIntent, AttemptPatch, OwnershipRequest};
use handoff::destination::{Action, Seen, Stage};
use handoff::verdict;
use types::{AttemptId, CarrierEvent, Epoch, Incarnation, Side};

use crate::agent::{Agent, Input, Want, Work, link_of};
use crate::controller::{Reply, Request};
use crate::host::{Does, Instance};
use crate::world::{Order, World};

pub(crate) struct Incoming {
    pub(crate) id: AttemptId,
    pub(crate) core: IncomingCore,
    epoch: Epoch,
    incarnation: Incarnation,
    instance: Instance,
    finishing: bool,
}

impl Agent {
    fn incoming(&mut self) -> Option<&mut Incoming> {
        match &mut self.work {
            Work::Destination(side) => Some(side),
            _ => None,
        }
    }
}

impl World {
    fn inside(&mut self, host: usize) -> Option<&mut Incoming> {
        self.agent(host)?.incoming()
    }

    pub(crate) fn destination_begins(&mut self, host: usize, id: AttemptId) {
        let instance = self.instance(host);
        let Some(agent) = self.agent(host) else { return };
        let Some(intent) = agent.told.attempts.iter().find(|t| t.record.id == id).cloned() else {
            return;
        };
        agent.record.begin_incoming(&intent, instance);
        self.destination_runs(host, &intent, None);
    }

    pub(crate) fn destination_resumes(&mut self, host: usize, intent: &AttemptIntent) {
        let Some(incoming) = self.agent(host).and_then(|a| a.record.incoming.clone()) else {
            return;
        };
        let qemu = self.hosts[host].qemus.get(&incoming.instance);
        let alive = qemu.is_some_and(crate::host::Qemu::alive);
        self.destination_runs(host, intent, Some(Seen::Restarted { alive }));
    }

    fn destination_runs(&mut self, host: usize, intent: &AttemptIntent, first: Option<Seen>) {
        let clock = Duration::from_millis(self.now);
        let Some(agent) = self.agent(host) else { return };
        let Some(incoming) = agent.record.incoming.clone() else { return };
        agent.seq = incoming.seq + if first.is_some() { 1000 } else { 0 };
        let core = IncomingCore::new(incoming.stage, false, clock);
        let (deadline, ended) = (core.deadline(), core.ended());
        let actions = core.begin();
        agent.work = Work::Destination(Box::new(Incoming {
            id: incoming.attempt,
            core,
            epoch: intent.record.epoch,
            incarnation: intent.record.incarnation,
            instance: incoming.instance,
            finishing: false,
        }));
        if ended {
            return self.destination_finishes(host);
        }
        match first {
            Some(seen) => self.destination_feed(host, vec![seen]),
            None => {
                if let Some(at) = deadline {
                    self.deadline_at(host, incoming.attempt, at);
                }
                let mut queue = VecDeque::new();
                if self.destination_performs_all(host, actions, &mut queue) {
                    self.destination_feed(host, queue.into());
                }
            }
        }
        self.sync(host);
    }

    pub(crate) fn destination_told(&mut self, host: usize) {
        let Some(agent) = self.agent(host) else { return };
        let Work::Destination(side) = &mut agent.work else { return };
        let intent = agent.told.attempts.iter().find(|t| t.record.id == side.id);
        let seen = intent.and_then(|intent| side.core.intent(intent));
        self.destination_feed(host, seen.into_iter().collect());
    }

    fn destination_feed(&mut self, host: usize, seen: Vec<Seen>) {
        let mut queue: VecDeque<Seen> = seen.into();
        while let Some(seen) = queue.pop_front() {
            let Some(instance) = self.inside(host).filter(|s| !s.finishing).map(|s| s.instance)
            else {
                return;
            };
            let alive = self.hosts[host].qemus.get(&instance);
            let dead = !alive.is_some_and(crate::host::Qemu::alive);
            self.tell(|| format!("         {host}: destination sees {seen:?}"));
            let Some(side) = self.inside(host) else { return };
            let mut actions = Vec::new();
            if dead && side.core.stage() == Stage::Claiming {
                // As the real agent does: what never executed goes back.
                actions.extend(side.core.on(Seen::QemuDied));
            }
            actions.extend(side.core.on(seen));
            if !self.destination_performs_all(host, actions, &mut queue) {
                return;
            }
            if self.inside(host).is_some_and(|s| s.core.ended()) {
                return self.destination_finishes(host);
            }
        }
    }

    /// False: the agent is no more, or holds its breath.
    fn destination_performs_all(
        &mut self,
        host: usize,
        actions: Vec<Action>,
        queue: &mut VecDeque<Seen>,
    ) -> bool {
        for action in actions {
            self.may_fail_between(host);
            self.tell(|| format!("         {host}: {action:?}"));
            match self.destination_performs(host, action, queue) {
                Some(Ok(())) => {}
                Some(Err(failed)) => {
                    queue.push_front(failed);
                    if let (Seen::NotJournalled(_), Some(id)) =
                        (&queue[0], self.inside(host).map(|s| s.id))
                    {
                        let rest = Input::DestinationFeed(id, std::mem::take(queue).into());
                        self.breathe(host, rest);
                        return false;
                    }
                    return true;
                }
                None => return false,
            }
        }
        true
    }

    fn destination_performs(
        &mut self,
        host: usize,
        action: Action,
        queue: &mut VecDeque<Seen>,
    ) -> Option<Result<(), Seen>> {
        let side = self.inside(host)?;
        let (id, instance, epoch) = (side.id, side.instance, side.epoch);
        let incarnation = side.incarnation;
        let request = |epoch| OwnershipRequest { attempt: id, epoch, incarnation };
        let number = link_of(id);
        match action {
            Action::Journal(stage) => {
                let agent = self.agent(host)?;
                agent.record.destination_at(stage, agent.seq);
                let saved = self.save(host);
                return Some(saved.map_err(|()| Seen::NotJournalled("no space".into())));
            }
            Action::Prepare => {
                if !self.prepare(host, instance) {
                    return Some(Err(Seen::Failed("no memory".into())));
                }
                queue.push_back(Seen::Prepared);
            }
            Action::TellReady => {
                let destination = Some("there:1".to_owned());
                let patch = AttemptPatch { destination, ..AttemptPatch::default() };
                self.post(host, id, Side::Destination, "destination-ready", patch);
            }
            Action::Claim => self.want(host, Want::Claim, Request::Claim(request(epoch))),
            Action::Start => self.order(host, instance, Order::Start),
            Action::Settle => {
                self.want(host, Want::Settle, Request::Settle(request(epoch.next())));
            }
            Action::GiveBack => {
                self.want(host, Want::GiveBack, Request::GiveBack(request(epoch.next())));
            }
            Action::TellRunning => self.note(number, host, Input::NoteRunning(number)),
            Action::TellRefused(why) => {
                self.note(number, host, Input::NoteRefused(number));
                let patch = AttemptPatch { abort: Some(why), ..AttemptPatch::default() };
                self.post(host, id, Side::Destination, "refused", patch);
            }
            Action::Adopt => self.agent(host)?.record.adopt(),
            Action::End => {
                self.hosts[host].qemus.remove(&instance);
                self.break_link(number);
                queue.push_back(Seen::Gone);
            }
            Action::Alarm(what) => self.oracle.breaks(self.now, format!("I5: alarm: {what}")),
            Action::Compare => {}
        }
        Some(Ok(()))
    }

    pub(crate) fn destination_input(&mut self, host: usize, input: Input) {
        let clock = Duration::from_millis(self.now);
        let Some(side) = self.inside(host) else { return };
        let (id, number, instance) = (side.id, link_of(side.id), side.instance);
        let lost = || CarrierEvent::Failed { reason: "connection lost".into() };
        let seen = match input {
            Input::Connected(n) if n == number => {
                side.core.carrier(&CarrierEvent::Connected { round_trip_us: 100 })
            }
            Input::Sealed(n) if n == number => side.core.carrier(&CarrierEvent::Sealed),
            Input::Broken(n) if n == number => side.core.carrier(&lost()),
            Input::Loaded(n) if n == number => Some(Seen::Loaded),
            Input::NoteStopped(n) if n == number => Some(Seen::ToldStopped),
            Input::Died(i) if i == instance => Some(Seen::QemuDied),
            Input::Done(Order::Start, i, Does::Runs) if i == instance => Some(Seen::Started),
            Input::Deadline(i) if i == id && side.core.deadline().is_some_and(|d| d <= clock) => {
                Some(side.core.overdue())
            }
            Input::DestinationFeed(i, seen) if i == id => {
                return self.destination_feed(host, seen);
            }
            Input::Again(i) if i == id => return self.destination_flushed(host),
            _ => None,
        };
        self.destination_feed(host, seen.into_iter().collect());
    }

    pub(crate) fn destination_reply(&mut self, host: usize, want: Want, reply: Reply) {
        let Some(side) = self.inside(host) else { return };
        let id = side.id;
        let problem = match &reply {
            Reply::Problem(problem) => Some(problem),
            _ => None,
        };
        let swap = agent::core::swapped(problem);
        let seen = match (want, swap, &reply) {
            (Want::ReadUnclaimed, _, Reply::Intent(intent)) => {
                Seen::NotClaimed(verdict(&intent.ownership, &intent.record))
            }
            (Want::ReadUngiven, _, Reply::Intent(intent)) => {
                Seen::NotGivenBack(verdict(&intent.ownership, &intent.record))
            }
            (Want::Claim, agent::core::Swap::Done, _) => Seen::Claimed,
            (Want::Settle, agent::core::Swap::Done, _) => Seen::Settled,
            (Want::GiveBack, agent::core::Swap::Done, _) => Seen::GivenBack,
            (Want::Settle, _, _) => Seen::NotSettled,
            (Want::Claim, _, _) => {
                return self.want(host, Want::ReadUnclaimed, Request::Intent(id));
            }
            (Want::GiveBack, _, _) => {
                return self.want(host, Want::ReadUngiven, Request::Intent(id));
            }
            _ => return,
        };
        self.destination_feed(host, vec![seen]);
    }

    fn destination_finishes(&mut self, host: usize) {
        if let Some(side) = self.inside(host) {
            side.finishing = true;
        }
        if self.agent(host).is_some_and(|a| a.posts.is_empty()) {
            self.destination_flushed(host);
        }
    }

    pub(crate) fn destination_flushed(&mut self, host: usize) {
        let Some(side) = self.inside(host).filter(|s| s.finishing) else { return };
        let id = side.id;
        let Some(agent) = self.agent(host) else { return };
        let incoming = agent.record.incoming.clone();
        agent.record.destination_over();
        if self.save(host).is_err() {
            if let Some(agent) = self.agent(host) {
                agent.record.incoming = incoming;
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
