//! What there is: two hosts, the record between them, what is under way, and what
//! nobody in it knows but the search has to.

use crate::destination::{self, Destination};
use crate::source::{self, Source};

/// The rules that a state may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Invariant {
    /// I1: never do two run, nor one that the record does not name, since the other
    /// may then run as well.
    TwoRun,
    /// I2: never is none able to run, unless a host or an owner's QEMU died.
    NoneCanRun,
    /// I3: never does a copy run after another has executed, or while its memory
    /// may still be written to.
    Stale,
    /// I4: from every state a good end is reached without another fault or a person.
    Wedged,
    /// I5: record, outcome and reality agree.
    Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Qemu {
    None,
    Runs,
    /// Stopped by us, or its migration has completed: it rests until told otherwise.
    Rests,
    /// Stopped by itself to complete: resumes by itself if the stream breaks.
    MayResume,
    Loading,
    /// Holds everything the source had when it was stopped.
    Loaded,
    /// Held everything; the source has executed since.
    Outdated,
    Dead,
    /// Died holding everything.
    DiedLoaded,
}

/// What a host's agent has asked for and not heard of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(super) enum Ask {
    Fresh,
    Stop,
    Reassert,
    Resume,
    Release,
    Prepare,
    Claim,
    Start,
    Settle,
    GiveBack,
    End,
}

impl Ask {
    const ALL: [Self; 11] = [
        Self::Fresh,
        Self::Stop,
        Self::Reassert,
        Self::Resume,
        Self::Release,
        Self::Prepare,
        Self::Claim,
        Self::Start,
        Self::Settle,
        Self::GiveBack,
        Self::End,
    ];
}

/// A set of asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Asks(u16);

impl Asks {
    pub(super) fn add(&mut self, ask: Ask) {
        self.0 |= 1 << ask as u16;
    }
    pub(super) fn remove(&mut self, ask: Ask) {
        self.0 &= !(1 << ask as u16);
    }
    pub(super) fn has(self, ask: Ask) -> bool {
        self.0 & (1 << ask as u16) != 0
    }
    pub(super) fn iter(self) -> impl Iterator<Item = Ask> {
        Ask::ALL.into_iter().filter(move |ask| self.has(*ask))
    }
}

/// What a host's agent does, and what its journal holds of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Role {
    Idle,
    Source(Source),
    Destination(Destination),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Journal {
    Idle,
    Source(source::Stage),
    Destination(destination::Stage),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Host {
    pub(super) up: bool,
    pub(super) role: Role,
    pub(super) journal: Journal,
    /// The attempt of role and journal.
    pub(super) attempt: u8,
    /// The attempt in the slot has been begun here.
    pub(super) begun: bool,
    pub(super) qemu: Qemu,
    /// Nothing can be placed into its memory any more.
    pub(super) sealed: bool,
    pub(super) asks: Asks,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Outcome {
    Open,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Abort {
    No,
    Failure,
    Wish,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attempt {
    pub(super) from: u8,
    pub(super) epoch: u8,
    pub(super) abort: Abort,
    pub(super) outcome: Outcome,
    pub(super) ready: bool,
}

/// An attempt that nobody speaks of.
pub(super) const BLANK: Attempt =
    Attempt { from: 0, epoch: 0, abort: Abort::No, outcome: Outcome::Cancelled, ready: false };

/// What the store holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Record {
    pub(super) owner: u8,
    pub(super) epoch: u8,
    pub(super) slot: Option<u8>,
    pub(super) settled: bool,
    /// Those that anybody still speaks of; numbers are given anew in every state.
    pub(super) attempts: [Attempt; 3],
}

/// The connection of an attempt's carriers. What was said before it broke may
/// still be heard after.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Link {
    pub(super) attempt: u8,
    pub(super) broken: bool,
    pub(super) tail: bool,
    pub(super) completed: bool,
    pub(super) told_stopped: bool,
    pub(super) told_refused: bool,
}

/// A request that left and may arrive at any time, or once more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Late {
    Claim,
    GiveBack,
    Settle,
    /// With the epoch that the attempt began at, or after claim and return.
    Reassert,
    ReassertReturned,
}

impl Late {
    pub(super) const ALL: [Self; 5] =
        [Self::Claim, Self::GiveBack, Self::Settle, Self::Reassert, Self::ReassertReturned];
}

/// A set of late requests of the attempt in the slot; those of others compare
/// unequal for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Lates(u8);

impl Lates {
    pub(super) fn add(&mut self, late: Late) {
        self.0 |= 1 << late as u8;
    }
    pub(super) fn remove(&mut self, late: Late) {
        self.0 &= !(1 << late as u8);
    }
    pub(super) fn has(self, late: Late) -> bool {
        self.0 & (1 << late as u8) != 0
    }
    pub(super) fn count(self) -> u32 {
        self.0.count_ones()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) hosts: [Host; 2],
    pub(super) record: Record,
    pub(super) link: Link,
    pub(super) late: Lates,
    /// Where the VM executed last.
    pub(super) latest: u8,
    /// It died with its host or its owner's QEMU, and has to be started afresh.
    pub(super) crashed: bool,
    /// What a step has broken; nothing follows.
    pub(super) broke: Option<(Invariant, &'static str)>,
}

impl World {
    pub(super) fn new() -> Self {
        let host = Host {
            up: true,
            role: Role::Idle,
            journal: Journal::Idle,
            attempt: 0,
            begun: false,
            qemu: Qemu::None,
            sealed: true,
            asks: Asks::default(),
        };
        Self {
            hosts: [Host { qemu: Qemu::Runs, ..host.clone() }, host],
            record: Record { owner: 0, epoch: 0, slot: None, settled: true, attempts: [BLANK; 3] },
            link: Link { broken: true, ..Link::new(3) },
            late: Lates::default(),
            latest: 0,
            crashed: false,
            broke: None,
        }
    }

    pub(super) fn breaks(&mut self, rule: Invariant, what: &'static str) {
        self.broke.get_or_insert((rule, what));
    }

    /// The VM executes on a host from now on.
    pub(super) fn execute(&mut self, host: usize) {
        let other = &mut self.hosts[1 - host];
        if other.qemu == Qemu::Loaded {
            other.qemu = Qemu::Outdated;
        }
        self.hosts[host].qemu = Qemu::Runs;
        self.latest = host as u8;
    }

    /// A copy that was at rest goes on where it was.
    pub(super) fn go_on(&mut self, host: usize) {
        if self.latest != host as u8 {
            self.breaks(Invariant::Stale, "a copy goes on after another has executed");
        }
        self.execute(host);
    }

    /// The connection breaks; a QEMU that stopped by itself resumes by itself.
    pub(super) fn break_link(&mut self) {
        self.link.broken = true;
        if self.link.completed {
            return;
        }
        for host in 0..2 {
            if self.hosts[host].qemu == Qemu::MayResume {
                self.go_on(host);
            }
        }
    }

    /// What every state has to keep.
    pub(super) fn check(&mut self) {
        let qemu = |h: usize| self.hosts[h].qemu;
        let holds = |h: usize| match qemu(h) {
            Qemu::Runs | Qemu::Rests | Qemu::MayResume => self.latest == h as u8,
            Qemu::Loaded => true,
            _ => false,
        };
        if qemu(0) == Qemu::Runs && qemu(1) == Qemu::Runs {
            self.breaks(Invariant::TwoRun, "both hosts run the VM");
        } else if !holds(0) && !holds(1) && !self.crashed {
            self.breaks(Invariant::NoneCanRun, "no copy is left");
        }
        for h in 0..2 {
            if self.hosts[h].qemu != Qemu::Runs {
                continue;
            }
            if self.record.owner != h as u8 {
                self.breaks(Invariant::TwoRun, "it runs where the record does not name it");
            }
            if !self.hosts[h].sealed {
                self.breaks(Invariant::Stale, "it runs while pages may still be placed");
            }
        }
    }

    /// The VM runs at its owner, nowhere is anything else of it, nothing is open.
    pub(super) fn good_end(&self) -> bool {
        let owner = usize::from(self.record.owner);
        self.record.slot.is_none()
            && self.hosts[owner].qemu == Qemu::Runs
            && self.hosts[1 - owner].qemu == Qemu::None
            && self.hosts.iter().all(|h| {
                h.up && h.role == Role::Idle && h.journal == Journal::Idle && h.asks == Asks(0)
            })
    }

    /// Whether anything speaks of an attempt.
    pub(super) fn used(&self, k: u8) -> bool {
        self.record.slot == Some(k)
            || self.hosts.iter().any(|h| h.journal != Journal::Idle && h.attempt == k)
    }

    /// Forgets what can make no difference any more and names what is left anew,
    /// so that states meet: hosts, attempts and epochs have no names of their own.
    pub(super) fn forget(&mut self) {
        let first = self.record.slot.map(|k| self.record.attempts[usize::from(k)].from);
        if first.unwrap_or(self.record.owner) == 1 {
            self.swap();
        }
        if self.record.slot.is_none() {
            self.late = Lates::default();
            self.hosts.iter_mut().for_each(|h| h.begun = false);
        }
        for h in 0..2 {
            self.forget_unheard(h);
        }
        self.number();
    }

    /// Forgets answers and words that a machine would not listen to any more.
    fn forget_unheard(&mut self, h: usize) {
        use {destination::Stage as D, source::Stage as S};
        let host = &mut self.hosts[h];
        let linked = host.journal != Journal::Idle && host.attempt == self.link.attempt;
        match &host.role {
            Role::Idle => {}
            Role::Source(machine) => {
                let stage = machine.stage();
                if stage != S::Copying {
                    host.asks.remove(Ask::Fresh);
                }
                let undecided = matches!(stage, S::Preparing | S::Copying | S::Handing);
                if linked && !undecided {
                    self.link.told_refused = false;
                    self.link.completed &= !self.link.broken;
                }
            }
            Role::Destination(machine) => {
                let stage = machine.stage();
                if stage != D::Claiming {
                    host.asks.remove(Ask::Claim);
                }
                if linked && !matches!(stage, D::Preparing | D::Receiving) {
                    self.link.told_stopped = false;
                }
            }
        }
        if self.link.broken {
            self.link.tail = false;
        }
    }

    /// The two hosts change names.
    fn swap(&mut self) {
        self.hosts.swap(0, 1);
        self.latest = 1 - self.latest;
        self.record.owner = 1 - self.record.owner;
        for attempt in &mut self.record.attempts {
            attempt.from = 1 - attempt.from;
        }
    }

    /// Attempts get numbers in the order slot, first host, second host; epochs
    /// count from the lowest. More than three apart is as good as three.
    fn number(&mut self) {
        let old = self.record.attempts;
        let mut names: [Option<u8>; 4] = [None; 4];
        let mut count = 0;
        self.record.attempts = [BLANK; 3];
        let spoken = |h: &Host| (h.journal != Journal::Idle).then_some(h.attempt);
        let wanted = [self.record.slot, spoken(&self.hosts[0]), spoken(&self.hosts[1])];
        for k in wanted.into_iter().flatten() {
            if names[usize::from(k)].is_none() {
                names[usize::from(k)] = Some(count);
                self.record.attempts[usize::from(count)] = old[usize::from(k)];
                count += 1;
            }
        }
        let name = |k: u8| names[usize::from(k)];
        self.record.slot = self.record.slot.and_then(name);
        for host in &mut self.hosts {
            let idle = host.journal == Journal::Idle;
            host.attempt = name(host.attempt).filter(|_| !idle).unwrap_or(0);
        }
        self.link = match name(self.link.attempt) {
            Some(attempt) => Link { attempt, ..self.link },
            None => Link { broken: true, ..Link::new(3) },
        };
        let used = usize::from(count);
        let now = self.record.epoch;
        for attempt in &mut self.record.attempts[..used] {
            attempt.epoch = attempt.epoch.max(now.saturating_sub(3));
        }
        let epochs = self.record.attempts[..used].iter().map(|a| a.epoch);
        let lowest = epochs.min().unwrap_or(now).min(now);
        self.record.epoch -= lowest;
        for attempt in &mut self.record.attempts[..used] {
            attempt.epoch -= lowest;
        }
    }
}

impl Link {
    pub(super) fn new(attempt: u8) -> Self {
        Self {
            attempt,
            broken: false,
            tail: false,
            completed: false,
            told_stopped: false,
            told_refused: false,
        }
    }
}
