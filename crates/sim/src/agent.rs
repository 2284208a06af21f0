//! An agent: performs what its core decides, as the real one does, upon hosts and
//! a controller that are made up.

use std::collections::VecDeque;

use agent::core::{self, Qemu, Step, VmRecord};
use api::body::{AttemptEvent, AttemptPatch};
use types::{AttemptId, Side};

use crate::controller::{Reply, Request, Told, VM};
use crate::destination::Incoming;
use crate::host::{Does, Instance};
use crate::source::Outgoing;
use crate::world::{Event, Order, World};

/// What an agent asked, and for which round of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) want: Want,
    pub(crate) number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Sync,
    Post,
    /// The source: a fresh answer, the poll, what to swap, the swap.
    Fresh,
    Watch,
    ReadToReassert,
    Reassert,
    /// The destination: the record before it goes on, its swaps, what the record
    /// says where one compared unequal.
    ReadToResume,
    Claim,
    Settle,
    GiveBack,
    ReadUnclaimed,
    ReadUngiven,
}

/// What reaches an agent.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Wake,
    Reply(Ask, Reply),
    /// No answer came in time.
    Silence(Ask),
    /// A QEMU did what it was told, and does this now.
    Done(Order, Instance, Does),
    Died(Instance),
    Connected(usize),
    Sealed(usize),
    Loaded(usize),
    Broken(usize),
    StoppedItself(usize),
    /// QEMU is asked how its migration goes.
    Poll(AttemptId),
    /// The record is polled once more.
    Watch(AttemptId),
    Converged(AttemptId),
    Deadline(AttemptId),
    Later(AttemptId, handoff::source::Seen),
    /// The journal could not be written; a breath later, and what was to follow.
    Again(AttemptId),
    SourceFeed(AttemptId, Vec<handoff::source::Seen>),
    DestinationFeed(AttemptId, Vec<handoff::destination::Seen>),
    NoteStopped(usize),
    NoteRefused(usize),
    NoteRunning(usize),
}

/// What an agent is busy with.
pub(crate) enum Work {
    Idle,
    Source(Box<Outgoing>),
    Destination(Box<Incoming>),
}

pub(crate) struct Agent {
    pub(crate) record: VmRecord<Instance>,
    pub(crate) heard: bool,
    pub(crate) told: Told,
    pub(crate) work: Work,
    /// Events that wait for the controller, in order.
    pub(crate) posts: VecDeque<AttemptEvent>,
    pub(crate) seq: u64,
    numbers: u32,
    /// What is waited for.
    asked: Vec<(Ask, Request)>,
}

/// How long an answer of the controller is waited for, in milliseconds.
const PATIENCE: u64 = 10_000;
const SYNC: u64 = 12_000;
/// Between attempts to write a journal.
const BREATH: u64 = 200;

impl World {
    pub(crate) fn agent(&mut self, host: usize) -> Option<&mut Agent> {
        self.hosts[host].agent.as_mut()
    }

    /// An agent starts and reads its journal.
    pub(crate) fn agent_starts(&mut self, host: usize) {
        let place = &mut self.hosts[host];
        if !place.up || place.agent.is_some() {
            return;
        }
        let record = place.disk.clone().unwrap_or_else(|| VmRecord::new(VM));
        place.agent = Some(Agent {
            record,
            heard: false,
            told: Told::default(),
            work: Work::Idle,
            posts: VecDeque::new(),
            seq: 0,
            numbers: 0,
            asked: Vec::new(),
        });
        self.sync(host);
        self.input(host, 0, Input::Wake);
    }

    /// Writes the journal. A write that fails may have happened all the same.
    pub(crate) fn save(&mut self, host: usize) -> Result<(), ()> {
        let full = self.hosts[host].full_until > self.now;
        let written = !full || self.chance.hits(300);
        let Some(agent) = &self.hosts[host].agent else { return Err(()) };
        if written {
            let record = agent.record.clone();
            self.hosts[host].disk = (!record.is_empty()
                || record.last_incoming.is_some()
                || record.last_outgoing.is_some()
                || record.start_generation > 0)
                .then_some(record);
        }
        if full { Err(()) } else { Ok(()) }
    }

    /// The journal cannot be written: an agent holds its breath, and goes on with
    /// what it was about to hear.
    pub(crate) fn breathe(&mut self, host: usize, input: Input) {
        let place = &mut self.hosts[host];
        place.frozen_until = place.frozen_until.max(self.now + BREATH);
        self.input(host, 0, input);
    }

    // --- asking the controller ---

    pub(crate) fn want(&mut self, host: usize, want: Want, request: Request) {
        let patience = match want {
            Want::Fresh => 500,
            Want::Sync => SYNC,
            _ => PATIENCE,
        };
        let Some(agent) = self.agent(host) else { return };
        agent.numbers += 1;
        let ask = Ask { want, number: agent.numbers };
        agent.asked.retain(|(a, _)| a.want != want);
        agent.asked.push((ask, request.clone()));
        self.ask(host, ask, request);
        self.input(host, patience, Input::Silence(ask));
    }

    /// The same again, a breath later.
    pub(crate) fn want_again(&mut self, host: usize, ask: Ask) {
        let pause = self.chance.between(20, 500);
        let again = self.agent(host).and_then(|a| {
            a.asked.iter().find(|(known, _)| *known == ask).map(|(_, request)| request.clone())
        });
        if let Some(request) = again {
            let life = self.hosts[host].life;
            self.schedule(pause, Event::Arrive { host, life, ask, request });
            self.input(host, pause + PATIENCE, Input::Silence(ask));
        }
    }

    /// Whether an answer is the one waited for; it is waited for no longer.
    fn awaited(&mut self, host: usize, ask: Ask) -> bool {
        let Some(agent) = self.agent(host) else { return false };
        let before = agent.asked.len();
        agent.asked.retain(|(known, _)| *known != ask);
        agent.asked.len() < before
    }

    fn waits(&mut self, host: usize, ask: Ask) -> bool {
        self.agent(host).is_some_and(|a| a.asked.iter().any(|(known, _)| *known == ask))
    }

    /// The side of an attempt that ended asks nothing more.
    pub(crate) fn ask_no_more(&mut self, host: usize) {
        if let Some(agent) = self.agent(host) {
            agent.asked.retain(|(a, _)| a.want == Want::Sync);
            agent.posts.clear();
        }
    }

    pub(crate) fn sync(&mut self, host: usize) {
        let facts = self.facts(host);
        let Some(agent) = self.agent(host) else { return };
        let record = &agent.record;
        let attempts = record.outgoing.iter().map(|o| o.attempt);
        let attempts = attempts.chain(record.incoming.iter().map(|i| i.attempt)).collect();
        let since = agent.told.revision;
        self.want(host, Want::Sync, Request::Sync { facts, attempts, since });
    }

    /// Reports an event of the attempt.
    pub(crate) fn post(
        &mut self,
        host: usize,
        id: AttemptId,
        side: Side,
        event: &str,
        patch: AttemptPatch,
    ) {
        let Some(agent) = self.agent(host) else { return };
        agent.seq += 1;
        let event =
            AttemptEvent { side, seq: agent.seq, event: event.to_owned(), detail: None, patch };
        agent.posts.push_back(event);
        if agent.posts.len() == 1 {
            self.post_next(host, id);
        }
    }

    fn post_next(&mut self, host: usize, id: AttemptId) {
        let Some(event) = self.agent(host).and_then(|a| a.posts.front().cloned()) else { return };
        self.want(host, Want::Post, Request::Event(id, Box::new(event)));
    }

    // --- hearing ---

    pub(crate) fn agent_hears(&mut self, host: usize, input: Input) {
        match input {
            Input::Wake => self.next_step(host),
            Input::Silence(ask) => {
                if self.waits(host, ask) {
                    self.silence(host, ask);
                }
            }
            Input::Reply(ask, reply) => {
                if !self.waits(host, ask) {
                    return;
                }
                match (ask.want, reply) {
                    (Want::Sync, Reply::Sync(told)) => {
                        self.awaited(host, ask);
                        self.hear_told(host, *told);
                    }
                    (Want::Post, reply) => self.posted(host, ask, &reply),
                    (_, reply) => self.side_reply(host, ask, reply),
                }
            }
            Input::Died(instance) => {
                self.side_input(host, Input::Died(instance));
                self.changed(host);
            }
            other => self.side_input(host, other),
        }
    }

    fn silence(&mut self, host: usize, ask: Ask) {
        match ask.want {
            Want::Sync => {
                if let Some(agent) = self.agent(host) {
                    agent.told.revision = 0;
                }
                self.sync(host);
            }
            Want::Fresh => {
                self.awaited(host, ask);
                self.source_feed(host, vec![handoff::source::Seen::NoAnswer]);
            }
            _ => self.want_again(host, ask),
        }
    }

    fn posted(&mut self, host: usize, ask: Ask, reply: &Reply) {
        if matches!(reply, Reply::Problem(p) if p.code.status() >= 500) {
            return self.want_again(host, ask);
        }
        self.awaited(host, ask);
        let Some(agent) = self.agent(host) else { return };
        agent.posts.pop_front();
        let attempt = match &agent.work {
            Work::Source(side) => Some(side.id),
            Work::Destination(side) => Some(side.id),
            Work::Idle => None,
        };
        let empty = agent.posts.is_empty();
        match attempt {
            Some(id) if !empty => self.post_next(host, id),
            Some(_) => self.side_flushed(host),
            None => {}
        }
    }

    fn side_flushed(&mut self, host: usize) {
        match self.agent(host).map(|a| &a.work) {
            Some(Work::Source(_)) => self.source_flushed(host),
            Some(Work::Destination(_)) => self.destination_flushed(host),
            _ => {}
        }
    }

    fn side_reply(&mut self, host: usize, ask: Ask, reply: Reply) {
        // An answer that decides nothing is asked for again.
        let failed = matches!(&reply, Reply::Problem(p) if p.code != types::Code::Conflict);
        if failed {
            return self.want_again(host, ask);
        }
        self.awaited(host, ask);
        match self.agent(host).map(|a| &a.work) {
            Some(Work::Source(_)) => self.source_reply(host, ask.want, reply),
            Some(Work::Destination(_)) => self.destination_reply(host, ask.want, reply),
            Some(Work::Idle) if ask.want == Want::ReadToResume => {
                if let Reply::Intent(intent) = reply {
                    self.destination_resumes(host, &intent);
                }
            }
            _ => {}
        }
    }

    fn side_input(&mut self, host: usize, input: Input) {
        match self.agent(host).map(|a| &a.work) {
            Some(Work::Source(_)) => self.source_input(host, input),
            Some(Work::Destination(_)) => self.destination_input(host, input),
            _ => {}
        }
    }

    fn hear_told(&mut self, host: usize, told: Told) {
        let Some(agent) = self.agent(host) else { return };
        agent.heard = true;
        agent.told = told;
        self.sync(host);
        match self.agent(host).map(|a| &a.work) {
            Some(Work::Source(_)) => self.source_told(host),
            Some(Work::Destination(_)) => self.destination_told(host),
            _ => self.next_step(host),
        }
    }

    // --- the task of the VM ---

    /// What is seen of the VM has changed.
    pub(crate) fn changed(&mut self, host: usize) {
        self.sync(host);
        self.input(host, 0, Input::Wake);
    }

    /// What the VM's QEMU here does.
    pub(crate) fn look(&self, host: usize) -> Qemu {
        let place = &self.hosts[host];
        let instance = place.agent.as_ref().and_then(|a| a.record.instance);
        match instance.and_then(|i| place.qemus.get(&i)).map(|q| q.does) {
            Some(Does::Runs) => Qemu::Running,
            Some(Does::Rests | Does::Completes | Does::Loads) => Qemu::Paused,
            Some(Does::Dead) | None => Qemu::Dead,
        }
    }

    /// Decides and performs, while nothing else is under way.
    fn next_step(&mut self, host: usize) {
        let qemu = self.look(host);
        let Some(agent) = &self.hosts[host].agent else { return };
        if !matches!(agent.work, Work::Idle) {
            return;
        }
        let record = &agent.record;
        if !agent.heard && record.outgoing.is_none() && record.incoming.is_none() {
            return;
        }
        let step = core::decide(&core::World {
            me: &self.hosts[host].id,
            record,
            qemu,
            intent: agent.told.intent.as_ref(),
            attempts: &agent.told.attempts,
        });
        let incoming = record.incoming.as_ref().map(|i| i.attempt);
        self.tell(|| format!("         {host}: {step:?}"));
        match step {
            // Nobody presses buttons here.
            Step::Wait | Step::NotOurs | Step::Press(_) => {}
            Step::Start(generation) => self.start(host, generation),
            Step::Cont | Step::GoOn(_) => self.cont(host),
            Step::Pause => {
                if let Some(q) = self.own_qemu(host) {
                    q.does = Does::Rests;
                }
                self.changed(host);
            }
            Step::End => self.end(host),
            Step::BeginOutgoing(id) => self.source_begins(host, id),
            Step::ResumeOutgoing => self.source_resumes(host),
            Step::BeginIncoming(id) => self.destination_begins(host, id),
            Step::ResumeIncoming => {
                if let Some(id) = incoming {
                    self.want(host, Want::ReadToResume, Request::Intent(id));
                }
            }
        }
    }

    fn own_qemu(&mut self, host: usize) -> Option<&mut crate::host::Qemu> {
        let instance = self.hosts[host].agent.as_ref()?.record.instance?;
        self.hosts[host].qemus.get_mut(&instance)
    }

    fn cont(&mut self, host: usize) {
        let now = self.now;
        let Some(state) = self.own_qemu(host).map(|q| q.state) else { return };
        let state = self.oracle.goes_on(now, state);
        if let Some(q) = self.own_qemu(host) {
            (q.does, q.state) = (Does::Runs, state);
        }
        self.changed(host);
    }

    fn start(&mut self, host: usize, generation: u64) {
        let instance = self.instance(host);
        let Some(agent) = self.agent(host) else { return };
        let before = std::mem::replace(&mut agent.record.start_generation, generation);
        agent.record.instance = Some(instance);
        if self.save(host).is_err() {
            if let Some(agent) = self.agent(host) {
                agent.record.start_generation = before;
                agent.record.instance = None;
            }
            return self.input(host, 1000, Input::Wake);
        }
        let state = self.oracle.afresh();
        self.hosts[host].qemus.insert(
            instance,
            crate::host::Qemu {
                does: Does::Runs,
                migration: crate::host::Migration::None,
                state,
                complete: true,
                sealed: true,
            },
        );
        self.changed(host);
    }

    fn end(&mut self, host: usize) {
        let Some(instance) = self.agent(host).and_then(|a| a.record.instance.take()) else {
            return;
        };
        self.hosts[host].qemus.remove(&instance);
        if self.save(host).is_err() {
            return self.input(host, 1000, Input::Wake);
        }
        self.changed(host);
    }

    /// A name for a QEMU that was never used.
    pub(crate) fn instance(&mut self, host: usize) -> Instance {
        let place = &mut self.hosts[host];
        place.next_instance += 1;
        place.next_instance
    }
}

/// An attempt's number among the links.
pub(crate) fn link_of(id: AttemptId) -> usize {
    id.0.as_u128() as usize - 1
}
