//! What goes wrong, and how often.

use crate::chance::Chance;
use crate::host::Does;
use crate::world::{Event, World};

/// A fault. `chaos` on real hosts has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// An agent is killed and started again.
    AgentKilled,
    /// An agent is stopped for ten seconds.
    AgentStopped,
    /// An agent cannot write its journal for a while.
    JournalFull,
    /// A carrier is killed, or the link between two hosts breaks.
    ConnectionLost,
    /// A QEMU that receives is killed.
    DestinationQemuKilled,
    /// The VM's own QEMU is killed.
    OwnerQemuKilled,
    /// The source's QEMU stops the VM by itself to complete.
    SwitchedOverByItself,
    /// The controller, or its store, is away for a while.
    ControllerAway,
    /// A host loses power and returns.
    HostDies,
}

/// Every fault and how many times it happens in ten thousand events, while
/// faults happen at all. Messages are lost, doubled and delayed besides, and
/// users cancel.
pub const FAULTS: &[(Fault, u64)] = &[
    (Fault::AgentKilled, 60),
    (Fault::AgentStopped, 10),
    (Fault::JournalFull, 20),
    (Fault::ConnectionLost, 30),
    (Fault::DestinationQemuKilled, 20),
    (Fault::OwnerQemuKilled, 1),
    (Fault::SwitchedOverByItself, 40),
    (Fault::ControllerAway, 15),
    (Fault::HostDies, 4),
];

/// What a run suffers.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Faults happen now.
    pub(crate) active: bool,
    /// So many migrations are asked for.
    pub(crate) migrations: u32,
    /// Multiplies every rate, in tenths: some runs suffer more.
    harder: u64,
    /// A shell that resumes the VM because a socket closed.
    #[cfg(test)]
    pub(crate) careless: bool,
    pub(crate) happened: u32,
    pub(crate) counts: [u32; FAULTS.len()],
}

impl Faults {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        Self {
            active: true,
            migrations: 4,
            harder: [1, 3, 8, 20][chance.below(4) as usize],
            #[cfg(test)]
            careless: false,
            happened: 0,
            counts: [0; FAULTS.len()],
        }
    }
}

impl World {
    /// After every event something may fail.
    pub(crate) fn may_fail(&mut self) {
        if !self.faults.active || self.controller.own.attempt.is_none() {
            return;
        }
        let all: u64 = FAULTS.iter().map(|(_, rate)| rate).sum();
        let mut drawn = self.chance.below(100_000);
        if drawn >= all * self.faults.harder {
            return;
        }
        for (fault, rate) in FAULTS {
            match drawn.checked_sub(rate * self.faults.harder) {
                Some(rest) => drawn = rest,
                None => {
                    let after = self.chance.between(0, 20);
                    return self.schedule(after, Event::Fault(*fault));
                }
            }
        }
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        if !self.faults.active {
            return;
        }
        self.faults.happened += 1;
        if let Some(at) = FAULTS.iter().position(|(f, _)| *f == fault) {
            self.faults.counts[at] += 1;
        }
        let host = self.party();
        match fault {
            Fault::AgentKilled => self.kill_agent(host),
            Fault::AgentStopped => self.hosts[host].frozen_until = self.now + 10_000,
            Fault::JournalFull => {
                self.hosts[host].full_until = self.now + self.chance.between(1, 3_000);
            }
            Fault::ConnectionLost => {
                if let Some(link) = self.links.len().checked_sub(1) {
                    self.break_link(link);
                }
            }
            Fault::DestinationQemuKilled => {
                self.kill_qemu(host, |agent| agent.record.incoming.as_ref().map(|i| i.instance));
            }
            Fault::OwnerQemuKilled => self.kill_qemu(host, |agent| agent.record.instance),
            Fault::SwitchedOverByItself => self.switch_over(),
            Fault::ControllerAway => {
                self.controller.up = false;
                self.forget_waiting();
                let after = self.chance.between(10, 60_000);
                self.schedule(after, Event::Controller);
            }
            Fault::HostDies => self.kill_host(host),
        }
    }

    /// A host that has to do with the migration, mostly.
    fn party(&mut self) -> usize {
        let any = self.chance.below(self.hosts.len() as u64) as usize;
        let Some(attempt) = self.controller.attempts.last() else { return any };
        let side = if self.chance.hits(500) { &attempt.record.from } else { &attempt.record.to };
        self.hosts.iter().position(|h| h.id == *side).unwrap_or(any)
    }

    /// The agent ends in the middle of whatever it does; it is started again.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        if self.hosts[host].agent.take().is_some() {
            self.hosts[host].life += 1;
            let after = self.chance.between(5, 3_000);
            self.schedule(after, Event::Agent { host });
        }
    }

    fn kill_qemu(&mut self, host: usize, which: fn(&crate::agent::Agent) -> Option<u32>) {
        if let Some(instance) = self.hosts[host].agent.as_ref().and_then(which) {
            self.qemu_dies(host, instance);
        }
    }

    fn switch_over(&mut self) {
        let Some(number) = self.links.len().checked_sub(1) else { return };
        let Some(link) = self.links[number].as_ref().filter(|l| l.open && l.connected) else {
            return;
        };
        let (from, out) = (link.from, link.out);
        if let Some(qemu) = self.hosts[from].qemus.get_mut(&out)
            && qemu.runs()
            && !self.gated
        {
            qemu.does = Does::Completes;
            self.input(from, 0, crate::agent::Input::StoppedItself(number));
        }
    }

    fn kill_host(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].up, false) {
            return;
        }
        // What only this host held is gone.
        let owner = self.hosts[host].id == self.controller.own.owner;
        let held = self.hosts[host].qemus.values().any(|q| self.oracle.is_newest(q));
        for instance in self.hosts[host].qemus.keys().copied().collect::<Vec<_>>() {
            self.qemu_dies(host, instance);
        }
        self.oracle.crashed |= owner || held;
        self.hosts[host].qemus.clear();
        self.hosts[host].agent = None;
        self.hosts[host].life += 1;
        let after = self.chance.between(2_000, 40_000);
        self.schedule(after, Event::Power { host });
    }
}

impl World {
    /// Between two actions an agent may be killed.
    pub(crate) fn may_fail_between(&mut self, host: usize) {
        if self.faults.active && self.chance.hits(2 * self.faults.harder / 10) {
            self.faults.happened += 1;
            self.faults.counts[0] += 1;
            self.kill_agent(host);
        }
    }
}
