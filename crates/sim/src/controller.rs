//! The controller: its core's decisions upon records that outlive it.

use api::body::{AttemptEvent, AttemptIntent, OwnershipRequest, VmFacts, VmIntent};
use controller::core::{self, Attempt, Caller, Observed, Vm};
use types::{
    AttemptId, AttemptPhase, Code, Epoch, HostId, Incarnation, Ownership, Problem, RunState, VmId,
};
use uuid::Uuid;

pub(crate) const VM: VmId = VmId(Uuid::from_u128(7));
const USER: &str = "admin";

/// What an agent asks.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Sync { facts: Option<VmFacts>, attempts: Vec<AttemptId>, since: u64 },
    Intent(AttemptId),
    Claim(OwnershipRequest),
    Reassert(OwnershipRequest),
    GiveBack(OwnershipRequest),
    Settle(OwnershipRequest),
    Event(AttemptId, Box<AttemptEvent>),
}

/// What it is told.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Sync(Box<Told>),
    Intent(Box<AttemptIntent>),
    Done,
    Problem(Problem),
    /// Not yet: there is no news.
    Later,
}

/// The intent for a host, as far as it is about the one VM.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) revision: u64,
    pub(crate) intent: Option<VmIntent>,
    pub(crate) attempts: Vec<AttemptIntent>,
}

/// Records, and what agents said since it started.
pub(crate) struct Controller {
    pub(crate) up: bool,
    pub(crate) vm: Vm,
    pub(crate) own: Ownership,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) revision: u64,
    vm_revision: u64,
    own_revision: u64,
    seen: Vec<(HostId, VmFacts, u64)>,
}

impl Controller {
    pub(crate) fn new(vm: Vm, owner: HostId) -> Self {
        let own = Ownership {
            owner,
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            attempt: None,
            settled: true,
        };
        Self {
            up: true,
            vm,
            own,
            attempts: Vec::new(),
            revision: 1,
            vm_revision: 1,
            own_revision: 1,
            seen: Vec::new(),
        }
    }

    /// It starts again: what it had only heard is gone.
    pub(crate) fn restart(&mut self) {
        self.seen.clear();
    }

    /// Makes a change and sees what became different.
    fn change<T>(&mut self, decide: impl FnOnce(&mut Self) -> T) -> T {
        let (vm, own) = (self.vm.clone(), self.own.clone());
        let attempts = self.attempts.len();
        let last = self.attempts.last().cloned();
        let answer = decide(self);
        let news = vm != self.vm
            || own != self.own
            || attempts != self.attempts.len()
            || last.as_ref() != self.attempts.last();
        self.revision += u64::from(news);
        if vm != self.vm {
            self.vm_revision = self.revision;
        }
        if own != self.own {
            self.own_revision = self.revision;
        }
        answer
    }

    /// Decides what `host` asked at `now`.
    pub(crate) fn decide(&mut self, host: &HostId, request: &Request, now: i64) -> Reply {
        match request {
            Request::Sync { facts, attempts, since } => {
                self.hear(host, facts.as_ref(), *since);
                match *since < self.revision || facts.is_none() && *since == 0 {
                    true => Reply::Sync(Box::new(self.told(host, attempts))),
                    false => Reply::Later,
                }
            }
            Request::Intent(id) => match self.attempt(*id) {
                Some(attempt) => Reply::Intent(Box::new(self.intent(attempt))),
                None => Reply::Problem(Problem::new(Code::AttemptUnknown, "no such attempt")),
            },
            Request::Claim(r) => self.swap(r, |o, a| core::claim(o, a, caller(host, r))),
            Request::GiveBack(r) => self.swap(r, |o, a| core::give_back(o, a, caller(host, r))),
            Request::Reassert(r) => self.swap(r, |o, a| core::reassert(o, a, caller(host, r), now)),
            Request::Settle(r) => self.swap(r, |o, a| core::settle(o, a, caller(host, r), now)),
            Request::Event(id, event) => self.change(|c| {
                let own = c.own.clone();
                match c.attempts.iter_mut().find(|a| a.record.id == *id) {
                    Some(attempt) => done(core::event(&own, attempt, host, event, now)),
                    None => Reply::Problem(Problem::new(Code::AttemptUnknown, "no such attempt")),
                }
            }),
        }
    }

    fn swap<T>(
        &mut self,
        request: &OwnershipRequest,
        decide: impl FnOnce(&mut Ownership, &mut Attempt) -> Result<T, Problem>,
    ) -> Reply {
        self.change(|c| {
            let own = &mut c.own;
            match c.attempts.iter_mut().find(|a| a.record.id == request.attempt) {
                Some(attempt) => done(decide(own, attempt)),
                None => Reply::Problem(Problem::new(Code::AttemptUnknown, "no such attempt")),
            }
        })
    }

    fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.record.id == id)
    }

    /// Facts are believed only of the VM's owner.
    fn hear(&mut self, host: &HostId, facts: Option<&VmFacts>, since: u64) {
        self.seen.retain(|(h, ..)| h != host);
        let Some(facts) = facts else { return };
        self.seen.push((host.clone(), facts.clone(), since));
        if self.own.owner != *host {
            return;
        }
        let Some(observed) = self.observed() else { return };
        self.change(|c| {
            let own = c.own.clone();
            core::powered_off(&mut c.vm, &own, &observed);
        });
    }

    /// What the owner said last.
    pub(crate) fn observed(&self) -> Option<Observed> {
        let (_, facts, since) = self.seen.iter().find(|(h, ..)| *h == self.own.owner)?;
        Some(Observed {
            facts: facts.clone(),
            informed: *since >= self.vm_revision,
            owning: *since >= self.own_revision,
        })
    }

    fn told(&self, host: &HostId, asked: &[AttemptId]) -> Told {
        let ours = |a: &&Attempt| {
            let record = &a.record;
            (record.from == *host || record.to == *host)
                && (record.phase != AttemptPhase::Done || asked.contains(&record.id))
        };
        Told {
            revision: self.revision,
            intent: (self.own.owner == *host).then(|| VmIntent {
                spec: self.vm.spec.clone(),
                ownership: self.own.clone(),
                desired: self.vm.desired,
                start_generation: self.vm.start_generation,
                resumes: self.vm.resumes,
                press: None,
            }),
            attempts: self.attempts.iter().filter(ours).map(|a| self.intent(a)).collect(),
        }
    }

    fn intent(&self, attempt: &Attempt) -> AttemptIntent {
        AttemptIntent {
            record: attempt.record.clone(),
            spec: self.vm.spec.clone(),
            ownership: self.own.clone(),
            desired: self.vm.desired,
            start_generation: self.vm.start_generation,
            resumes: self.vm.resumes,
        }
    }

    /// A user asks for a migration.
    pub(crate) fn migrate(&mut self, to: HostId, now: i64) -> Option<AttemptId> {
        let id = AttemptId(Uuid::from_u128(self.attempts.len() as u128 + 1));
        let request = core::Request {
            id,
            vm: VM,
            to,
            secret: String::new(),
            verify: false,
            blackout_budget_ms: 300,
            resting: false,
            user: USER.to_owned(),
            now_ms: now,
        };
        self.change(|c| {
            let vm = c.vm.clone();
            let (attempt, _) = core::migrate(&mut c.own, &vm, request).ok()?;
            c.attempts.push(attempt);
            Some(id)
        })
    }

    /// A user cancels.
    pub(crate) fn cancel(&mut self) {
        self.change(|c| {
            if let Some(attempt) = c.attempts.last_mut() {
                let _ = core::cancel(&c.own, attempt, USER);
            }
        });
    }

    /// A user starts the VM where it was last.
    pub(crate) fn start(&mut self) {
        let observed = self.observed();
        if self.vm.desired != RunState::Stopped {
            return;
        }
        self.change(|c| {
            let on = c.own.owner.clone();
            let mut own = Some(c.own.clone());
            let past = (c.own.incarnation, c.own.epoch);
            let seen = observed.as_ref();
            if core::start(&mut c.vm, &mut own, seen, &on, past, USER).is_ok()
                && let Some(own) = own
            {
                c.own = own;
            }
        });
    }
}

fn done<T>(result: Result<T, Problem>) -> Reply {
    match result {
        Ok(_) => Reply::Done,
        Err(problem) => Reply::Problem(problem),
    }
}

fn caller<'a>(host: &'a HostId, request: &'a OwnershipRequest) -> Caller<'a> {
    Caller { host, vm: VM, request }
}
