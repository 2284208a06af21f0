//! Everything there is, and what is about to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use types::{HostId, RunState};

use crate::agent::{Ask, Input};
use crate::chance::Chance;
use crate::controller::{Controller, Reply, Request, VM};
use crate::faults::{Fault, Faults};
use crate::host::{Does, Host, Instance, Migration, Qemu};
use crate::oracle::Oracle;

/// What is about to happen. `life` is the agent's; what an earlier one was to hear
/// is void.
#[derive(Debug)]
pub(crate) enum Event {
    /// An agent starts.
    Agent {
        host: usize,
    },
    /// Something reaches an agent.
    Input {
        host: usize,
        life: u32,
        input: Input,
    },
    /// A request reaches the controller, and is decided a little later.
    Arrive {
        host: usize,
        life: u32,
        ask: Ask,
        request: Request,
    },
    Decide {
        host: usize,
        life: u32,
        ask: Ask,
        request: Request,
    },
    /// The connection of an attempt's carriers goes on with what it does.
    Link {
        link: usize,
        step: LinkStep,
    },
    /// A QEMU does what it was told.
    Qemu {
        host: usize,
        life: u32,
        instance: Instance,
        order: Order,
    },
    Power {
        host: usize,
    },
    Controller,
    User,
    Fault(Fault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkStep {
    Connect,
    Seal,
    Load,
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Stop,
    Resume,
    Start,
}

/// The carriers of an attempt.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) out: Instance,
    pub(crate) into: Instance,
    pub(crate) open: bool,
    pub(crate) connected: bool,
    pub(crate) tail: bool,
    pub(crate) loading: bool,
}

/// The whole fleet.
pub(crate) struct World {
    /// Milliseconds since the beginning.
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) hosts: Vec<Host>,
    pub(crate) controller: Controller,
    /// By number of the attempt.
    pub(crate) links: Vec<Option<Link>>,
    pub(crate) oracle: Oracle,
    pub(crate) faults: Faults,
    /// QEMU can be kept from switching over by itself.
    pub(crate) gated: bool,
    pub(crate) started: bool,
    pub(crate) migrations: u32,
    /// The story, where somebody wants to read it.
    pub(crate) story: Option<Vec<String>>,
    /// Long polls that wait for news.
    waiting: Vec<(usize, u32, Ask, Request)>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    scheduled: u64,
}

impl World {
    pub(crate) fn new(seed: u64, controller: Controller, hosts: Vec<Host>) -> Self {
        let mut chance = Chance::new(seed);
        let gated = chance.hits(500);
        let faults = Faults::new(&mut chance);
        Self {
            now: 0,
            chance,
            hosts,
            controller,
            links: Vec::new(),
            oracle: Oracle::default(),
            faults,
            gated,
            started: false,
            migrations: 0,
            story: None,
            waiting: Vec::new(),
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            scheduled: 0,
        }
    }

    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>8} {}", self.now, what()));
        }
    }

    /// `event` happens `after` milliseconds from now.
    pub(crate) fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((self.now + after, self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    /// An agent hears something `after` milliseconds from now, if it still lives.
    pub(crate) fn input(&mut self, host: usize, after: u64, input: Input) {
        let life = self.hosts[host].life;
        self.schedule(after, Event::Input { host, life, input });
    }

    /// The next thing happens. False: nothing is left to happen.
    pub(crate) fn step(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.queue.pop() else { return false };
        let Some(event) = self.events.remove(&number) else { return true };
        self.now = at;
        if let Event::Input { host, .. } = &event
            && self.hosts[*host].frozen_until > at
        {
            let wait = self.hosts[*host].frozen_until - at;
            self.schedule(wait, event);
            return true;
        }
        self.tell(|| format!("{event:?}"));
        self.happen(event);
        self.may_fail();
        let mut oracle = std::mem::take(&mut self.oracle);
        oracle.look(self);
        self.oracle = oracle;
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Agent { host } => self.agent_starts(host),
            Event::Input { host, life, input } => {
                if self.hosts[host].life == life && self.hosts[host].agent.is_some() {
                    self.agent_hears(host, input);
                }
            }
            Event::Arrive { host, life, ask, request } => {
                if self.controller.up {
                    let after = self.chance.between(0, 4);
                    self.schedule(after, Event::Decide { host, life, ask, request });
                }
            }
            Event::Decide { host, life, ask, request } => self.decide(host, life, ask, request),
            Event::Link { link, step } => self.link_step(link, step),
            Event::Qemu { host, life, instance, order } => self.qemu(host, life, instance, order),
            Event::Power { host } => {
                self.hosts[host].up = true;
                self.schedule(0, Event::Agent { host });
            }
            Event::Controller => {
                self.controller.up = true;
                self.controller.restart();
            }
            Event::User => self.user(),
            Event::Fault(fault) => self.fail(fault),
        }
    }

    // --- the controller and the network to it ---

    /// An agent asks the controller; the request may be lost, late or doubled.
    pub(crate) fn ask(&mut self, host: usize, ask: Ask, request: Request) {
        let life = self.hosts[host].life;
        for after in self.deliveries() {
            let request = request.clone();
            self.schedule(after, Event::Arrive { host, life, ask, request });
        }
    }

    /// When copies of a message arrive.
    fn deliveries(&mut self) -> Vec<u64> {
        let quick = self.chance.between(0, 3);
        if !self.faults.active {
            return vec![quick];
        }
        match self.chance.below(1000) {
            0..=19 => Vec::new(),
            20..=39 => vec![quick, self.chance.between(5, 2000)],
            40..=59 => vec![self.chance.between(50, 8000)],
            _ => vec![quick],
        }
    }

    fn decide(&mut self, host: usize, life: u32, ask: Ask, request: Request) {
        if !self.controller.up {
            return;
        }
        let before = self.controller.revision;
        let id = self.hosts[host].id.clone();
        let reply = self.controller.decide(&id, &request, self.now as i64);
        if matches!(reply, Reply::Later) {
            self.waiting.retain(|(h, ..)| *h != host);
            self.waiting.push((host, life, ask, request));
        } else {
            self.reply(host, life, ask, &reply);
        }
        if self.controller.revision != before {
            self.news();
        }
    }

    fn reply(&mut self, host: usize, life: u32, ask: Ask, reply: &Reply) {
        for after in self.deliveries() {
            let input = Input::Reply(ask, reply.clone());
            self.schedule(after, Event::Input { host, life, input });
        }
    }

    /// Whoever waits for news is told.
    pub(crate) fn news(&mut self) {
        for (host, life, ask, request) in std::mem::take(&mut self.waiting) {
            let id = self.hosts[host].id.clone();
            let reply = self.controller.decide(&id, &request, self.now as i64);
            match reply {
                Reply::Later => self.waiting.push((host, life, ask, request)),
                reply => self.reply(host, life, ask, &reply),
            }
        }
    }

    /// Those that wait lose their connection.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    // --- users ---

    fn user(&mut self) {
        if self.controller.up {
            let revision = self.controller.revision;
            if self.controller.own.attempt.is_none() {
                if self.controller.vm.desired == RunState::Stopped {
                    self.controller.start();
                } else if self.faults.migrations > self.migrations && !self.oracle.crashed {
                    let owner = self.controller.own.owner.clone();
                    let others: Vec<HostId> =
                        self.hosts.iter().map(|h| h.id.clone()).filter(|h| *h != owner).collect();
                    let to = others[self.chance.below(others.len() as u64) as usize].clone();
                    let made = self.controller.migrate(to, self.now as i64);
                    self.migrations += u32::from(made.is_some());
                }
            } else if self.faults.active && self.chance.hits(6) {
                self.controller.cancel();
            }
            if self.controller.revision != revision {
                self.news();
            }
        }
        let after = self.chance.between(20, 400);
        self.schedule(after, Event::User);
    }

    // --- QEMUs ---

    pub(crate) fn order(&mut self, host: usize, instance: Instance, order: Order) {
        let life = self.hosts[host].life;
        let after = self.chance.between(1, 3);
        self.schedule(after, Event::Qemu { host, life, instance, order });
    }

    fn qemu(&mut self, host: usize, life: u32, instance: Instance, order: Order) {
        if !self.hosts[host].up {
            return;
        }
        let now = self.now;
        let Some(qemu) = self.hosts[host].qemus.get_mut(&instance) else { return };
        match (order, qemu.does) {
            (Order::Stop, Does::Runs) => qemu.does = Does::Rests,
            (Order::Resume, Does::Rests | Does::Completes) => {
                if qemu.migration == Migration::Active {
                    qemu.migration = Migration::Failed;
                }
                qemu.does = Does::Runs;
                qemu.state = self.oracle.goes_on(now, qemu.state);
                self.oracle.crashed = false;
            }
            (Order::Start, Does::Rests) => {
                qemu.does = Does::Runs;
                qemu.state = self.oracle.goes_on(now, qemu.state);
                self.oracle.crashed = false;
            }
            _ => {}
        }
        let does = qemu.does;
        self.schedule(0, Event::Input { host, life, input: Input::Done(order, instance, does) });
    }

    /// A QEMU that receives is made; its agent does nothing else meanwhile.
    pub(crate) fn prepare(&mut self, host: usize, instance: Instance) -> bool {
        let busy = self.now + self.chance.between(5, 60);
        let place = &mut self.hosts[host];
        place.frozen_until = place.frozen_until.max(busy);
        if self.faults.active && self.chance.hits(20) {
            return false;
        }
        let qemu = Qemu {
            does: Does::Loads,
            migration: Migration::None,
            state: 0,
            complete: false,
            sealed: false,
        };
        self.hosts[host].qemus.insert(instance, qemu);
        true
    }

    /// A QEMU dies, and its agent sees it.
    pub(crate) fn qemu_dies(&mut self, host: usize, instance: Instance) {
        let owner = self.hosts[host].id == self.controller.own.owner;
        let own = self.hosts[host].agent.as_ref().and_then(|a| a.record.instance) == Some(instance);
        let Some(qemu) = self.hosts[host].qemus.get_mut(&instance) else { return };
        if !qemu.alive() {
            return;
        }
        // The owner's QEMU is the VM; so is the one that last was.
        self.oracle.crashed |= owner || own;
        qemu.does = Does::Dead;
        self.input(host, 0, Input::Died(instance));
        let concerned = |l: &Link| {
            (l.from == host && l.out == instance) || (l.to == host && l.into == instance)
        };
        if let Some(link) = self.links.iter().position(|l| l.as_ref().is_some_and(concerned)) {
            self.break_link(link);
        }
    }

    // --- connections of carriers ---

    pub(crate) fn link(&mut self, link: usize, after: u64, step: LinkStep) {
        self.schedule(after, Event::Link { link, step });
    }

    fn link_step(&mut self, number: usize, step: LinkStep) {
        let Some(Some(link)) = self.links.get(number) else { return };
        let (from, to, out, into) = (link.from, link.to, link.out, link.into);
        if !link.open {
            return;
        }
        let stopped = |q: &Qemu| matches!(q.does, Does::Rests | Does::Completes);
        match step {
            LinkStep::Connect => self.connect(number),
            LinkStep::Seal => {
                if let Some(qemu) = self.hosts[to].qemus.get_mut(&into) {
                    qemu.sealed = true;
                }
                self.input(to, 0, Input::Sealed(number));
                let after = self.chance.between(1, 10);
                self.link(number, after, LinkStep::Load);
            }
            LinkStep::Load => {
                let Some(source) = self.hosts[from].qemus.get(&out).filter(|q| stopped(q)) else {
                    return;
                };
                let (state, fails) = (source.state, self.faults.active && self.chance.hits(20));
                let Some(qemu) = self.hosts[to].qemus.get_mut(&into) else { return };
                if qemu.does != Does::Loads {
                    return;
                }
                if fails {
                    return self.qemu_dies(to, into);
                }
                (qemu.does, qemu.migration) = (Does::Rests, Migration::Completed);
                (qemu.state, qemu.complete) = (state, true);
                self.input(to, 0, Input::Loaded(number));
                let after = self.chance.between(0, 5);
                self.link(number, after, LinkStep::Complete);
            }
            LinkStep::Complete => {
                if let Some(qemu) = self.hosts[from].qemus.get_mut(&out)
                    && stopped(qemu)
                    && qemu.migration == Migration::Active
                {
                    (qemu.does, qemu.migration) = (Does::Rests, Migration::Completed);
                }
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let Some(Some(link)) = self.links.get_mut(number) else { return };
        let (from, to, out, into) = (link.from, link.to, link.out, link.into);
        let waits = self.hosts[to].up
            && self.hosts[to].qemus.get(&into).is_some_and(|q| q.does == Does::Loads);
        if !waits {
            return self.break_link(number);
        }
        link.connected = true;
        if let Some(qemu) = self.hosts[from].qemus.get_mut(&out) {
            qemu.migration = Migration::Active;
        }
        self.input(from, 0, Input::Connected(number));
        self.input(to, 0, Input::Connected(number));
    }

    /// The VM is stopped: the rest is taken and loaded.
    pub(crate) fn tail(&mut self, number: usize) {
        let Some(Some(link)) = self.links.get_mut(number) else { return };
        if link.open && link.connected {
            link.tail = true;
        }
        self.load_if_stopped(number);
    }

    /// The tail flows once the source's QEMU has stopped the VM.
    pub(crate) fn load_if_stopped(&mut self, number: usize) {
        let Some(Some(link)) = self.links.get(number) else { return };
        let source = self.hosts[link.from].qemus.get(&link.out);
        let stopped = source.is_some_and(|q| matches!(q.does, Does::Rests | Does::Completes));
        if link.open && link.tail && stopped && !link.loading {
            if let Some(Some(link)) = self.links.get_mut(number) {
                link.loading = true;
            }
            let after = self.chance.between(2, 40);
            self.link(number, after, LinkStep::Seal);
        }
    }

    /// The carriers lose each other, or one of them ends.
    pub(crate) fn break_link(&mut self, number: usize) {
        let Some(Some(link)) = self.links.get_mut(number) else { return };
        if !std::mem::replace(&mut link.open, false) {
            return;
        }
        let (from, to, out, into) = (link.from, link.to, link.out, link.into);
        let now = self.now;
        if let Some(qemu) = self.hosts[from].qemus.get_mut(&out)
            && qemu.migration == Migration::Active
        {
            qemu.migration = Migration::Failed;
            // What stopped by itself goes on by itself.
            if qemu.does == Does::Completes {
                qemu.does = Does::Runs;
                qemu.state = self.oracle.goes_on(now, qemu.state);
            }
        }
        self.input(from, 1, Input::Broken(number));
        self.input(to, 1, Input::Broken(number));
        let loads = self.hosts[to].qemus.get(&into).is_some_and(|q| q.does == Does::Loads);
        if loads {
            self.qemu_dies(to, into);
        }
    }

    /// What an agent says to the other through the carriers, unless they lost each
    /// other.
    pub(crate) fn note(&mut self, number: usize, from: usize, input: Input) {
        let Some(Some(link)) = self.links.get(number) else { return };
        if link.open && link.connected {
            let to = if link.from == from { link.to } else { link.from };
            let after = self.chance.between(0, 3);
            self.input(to, after, input);
        }
    }

    // --- what every agent sees of the VM here ---

    pub(crate) fn facts(&self, host: usize) -> Option<api::body::VmFacts> {
        let host = &self.hosts[host];
        let agent = host.agent.as_ref()?;
        let record = &agent.record;
        let here = record.instance.is_some();
        let owned = agent.told.intent.is_some();
        let state = match record.instance.and_then(|i| host.qemus.get(&i)) {
            Some(qemu) if qemu.runs() => RunState::Running,
            Some(qemu) if qemu.alive() => RunState::Paused,
            _ => RunState::Stopped,
        };
        (here || (owned && record.incoming.is_none())).then_some(api::body::VmFacts {
            vm: VM,
            state,
            start_generation: record.start_generation,
            machine: None,
            error: None,
            halted: None,
            ended: None,
            blockers: Vec::new(),
            ownership: record.known.clone(),
            spec: None,
            moving: record.outgoing.is_some() || record.incoming.is_some(),
        })
    }
}
