//! What happens around the agents: connections, QEMUs, hosts, users.

use super::search::{Bounds, Kind, Next};
use super::store::Request;
use super::world::{Abort, Ask, Host, Journal, Late, Outcome, Qemu, Role, World};
use crate::destination::{self, Destination, Seen as D};
use crate::source::{self, Seen as S, Source};

impl Next {
    /// Everything that can happen next.
    pub(super) fn everything(&mut self, w: &World, bounds: &Bounds) {
        self.users(w, bounds);
        self.connection(w);
        for h in 0..2 {
            self.host(w, h, bounds);
            if w.hosts[h].up {
                self.begins(w, h);
                self.source(w, h);
                self.destination(w, h);
                for ask in w.hosts[h].asks.iter() {
                    self.answer(w, h, ask);
                }
            }
        }
    }

    fn users(&mut self, w: &World, bounds: &Bounds) {
        let owner = usize::from(w.record.owner);
        if w.hosts[owner].qemu == Qemu::Runs {
            let mut next = w.clone();
            if next.begin() {
                self.push(Kind::Fault, "a user asks for a migration", next);
            }
        }
        if let Some(k) = w.record.slot {
            let mut next = w.clone();
            next.change(k, Request::Abort(Abort::Wish));
            self.push(Kind::Fault, "a user cancels", next);
        }
        let dead = !w.hosts[owner].up;
        if dead && bounds.deaths {
            let mut next = w.clone();
            next.crashed = true;
            next.change(w.record.slot.unwrap_or(0), Request::TakeOver);
            self.push(Kind::Fault, "a person vouches that the owner is dead", next);
        }
        for late in Late::ALL.into_iter().filter(|late| w.late.has(*late)) {
            let mut next = w.clone();
            next.arrive(w.record.slot.unwrap_or(0), late);
            self.push(Kind::Fault, "a late request arrives", next);
        }
        let Host { up, role, journal, qemu, .. } = &w.hosts[owner];
        let free = *up && (role, journal, qemu) == (&Role::Idle, &Journal::Idle, &Qemu::None);
        if w.crashed && free && w.record.slot.is_none() {
            let mut next = w.clone();
            next.crashed = false;
            next.execute(owner);
            self.push(Kind::Step, "it is started afresh", next);
        }
    }

    fn connection(&mut self, w: &World) {
        let link = w.link;
        if link.broken {
            return;
        }
        let from = usize::from(w.record.attempts[usize::from(link.attempt)].from);
        let (source, destination) = (&w.hosts[from], &w.hosts[1 - from]);
        let receives = matches!(destination.role, Role::Destination(_))
            && destination.attempt == link.attempt
            && destination.up;
        let sends = source.attempt == link.attempt && source.up;
        let gone = !receives
            || !sends
            || matches!(destination.qemu, Qemu::None | Qemu::Dead | Qemu::DiedLoaded);
        let mut next = w.clone();
        next.break_link();
        let kind = if gone { Kind::Step } else { Kind::Fault };
        self.push(kind, "the connection breaks", next);
        if gone {
            return;
        }
        let stopped = matches!(source.qemu, Qemu::Rests | Qemu::MayResume);
        if link.tail && stopped && destination.qemu == Qemu::Loading {
            let mut next = w.clone();
            next.hosts[1 - from].qemu = Qemu::Loaded;
            self.push(Kind::Step, "everything is loaded", next);
        }
        if link.tail && stopped && !destination.sealed {
            let mut next = w.clone();
            next.hosts[1 - from].sealed = true;
            self.push(Kind::Step, "placement is sealed", next);
        }
        if stopped && destination.qemu == Qemu::Loaded && !link.completed {
            let mut next = w.clone();
            next.link.completed = true;
            next.hosts[from].qemu = Qemu::Rests;
            self.push(Kind::Step, "the source's QEMU completes", next);
        }
        let stage = match &source.role {
            Role::Source(machine) => Some(machine.stage()),
            _ => None,
        };
        let copies = matches!(stage, Some(source::Stage::Copying | source::Stage::Handing));
        if !self.gated && copies && source.qemu == Qemu::Runs {
            let mut next = w.clone();
            next.hosts[from].qemu = Qemu::MayResume;
            self.push(Kind::Fault, "the source's QEMU stops the VM by itself", next);
        }
    }

    fn host(&mut self, w: &World, h: usize, bounds: &Bounds) {
        let host = &w.hosts[h];
        if !host.up {
            let mut next = w.clone();
            next.hosts[h].up = true;
            self.push(Kind::Step, "a host returns", next.restart(h, self.gated));
            return;
        }
        if host.role != Role::Idle {
            self.push(Kind::Fault, "an agent restarts", w.clone().restart(h, self.gated));
        } else if matches!(host.qemu, Qemu::Dead | Qemu::DiedLoaded) {
            let mut next = w.clone();
            next.hosts[h].qemu = Qemu::None;
            self.push(Kind::Step, "a dead QEMU is cleared away", next);
        }
        if w.late.count() < bounds.late && w.record.slot == Some(host.attempt) {
            for ask in host.asks.iter() {
                let Some(late) = w.on_its_way(host.attempt, ask) else { continue };
                let mut next = w.clone();
                next.late.add(late);
                self.push(Kind::Fault, "a request is repeated", next);
            }
        }
        let alive = matches!(host.qemu, Qemu::Loading | Qemu::Loaded | Qemu::Outdated | Qemu::Runs);
        if matches!(host.role, Role::Destination(_)) && alive {
            let lost = w.link.attempt != host.attempt || w.link.broken;
            let kind = if lost && host.qemu == Qemu::Loading { Kind::Step } else { Kind::Fault };
            self.push(kind, "the destination's QEMU dies", qemu_dies(w.clone(), h));
        }
        if bounds.deaths && w.hosts[1 - h].up {
            self.push(Kind::Fault, "a host dies", dies(w.clone(), h));
        }
    }

    /// An idle agent begins its part.
    fn begins(&mut self, w: &World, h: usize) {
        let host = &w.hosts[h];
        let Some(k) = w.record.slot else { return };
        let attempt = w.record.attempts[usize::from(k)];
        let idle = host.role == Role::Idle && host.journal == Journal::Idle;
        if !idle || host.begun || attempt.outcome != Outcome::Open {
            return;
        }
        let mut next = w.clone();
        (next.hosts[h].attempt, next.hosts[h].begun) = (k, true);
        if usize::from(attempt.from) == h && usize::from(w.record.owner) == h {
            next.hosts[h].role = Role::Source(Source::new(source::Stage::Preparing, self.gated));
            next.hosts[h].journal = Journal::Source(source::Stage::Preparing);
            self.push(Kind::Step, "the source begins", next);
        } else if usize::from(attempt.from) != h
            && attempt.abort == Abort::No
            && host.qemu == Qemu::None
        {
            let machine = Destination::new(destination::Stage::Preparing, false);
            let actions = machine.begin();
            next.hosts[h].role = Role::Destination(machine);
            next.hosts[h].journal = Journal::Destination(destination::Stage::Preparing);
            let told = (Kind::Step, "the destination begins");
            self.destination_acts(next, h, &actions, told, false);
        }
    }

    fn source(&mut self, w: &World, h: usize) {
        use source::Stage::{Copying, Handing, Preparing};
        let Role::Source(machine) = &w.hosts[h].role else { return };
        let (stage, k) = (machine.stage(), w.hosts[h].attempt);
        let attempt = w.record.attempts[usize::from(k)];
        let link = (w.link.attempt == k).then_some(w.link).filter(|_| stage != Preparing);
        let mut sees = |seen| self.source_sees(w.clone(), h, seen, Kind::Step);
        if stage == Preparing {
            if attempt.ready {
                sees(S::DestinationReady);
            }
            sees(S::Broken("the destination is not ready in time".into()));
        }
        if stage == Copying && link.is_some_and(|l| !l.broken) {
            sees(S::Converged);
        }
        if attempt.abort != Abort::No && attempt.outcome == Outcome::Open {
            sees(S::Abort("given up".into()));
        }
        if link.is_some_and(|l| l.broken) && matches!(stage, Copying | Handing) {
            sees(S::Broken("connection lost".into()));
        }
        if w.hosts[h].qemu == Qemu::MayResume && stage == Copying {
            sees(S::StoppedItself);
        }
        if link.is_some_and(|l| l.completed) && matches!(stage, Copying | Handing) {
            sees(S::Completed);
        }
        if link.is_some_and(|l| l.told_refused) {
            sees(S::Refused("refused".into()));
        }
        if stage == Handing {
            sees(S::Overdue);
            sees(S::Record(w.verdict(k)));
        }
    }

    fn destination(&mut self, w: &World, h: usize) {
        use destination::Stage::{Preparing, Receiving};
        let Role::Destination(machine) = &w.hosts[h].role else { return };
        let (stage, k) = (machine.stage(), w.hosts[h].attempt);
        let attempt = w.record.attempts[usize::from(k)];
        let mut sees = |seen| self.destination_sees(w.clone(), h, seen, Kind::Step);
        let linked = w.link.attempt == k;
        if linked && w.link.told_stopped {
            sees(D::ToldStopped);
        }
        if matches!(w.hosts[h].qemu, Qemu::Dead | Qemu::DiedLoaded) {
            sees(D::QemuDied);
        }
        if matches!(w.hosts[h].qemu, Qemu::Loaded | Qemu::Outdated) {
            sees(D::Loaded);
        }
        if w.hosts[h].sealed && !w.hosts[h].asks.has(Ask::Prepare) {
            sees(D::Sealed);
        }
        if attempt.abort != Abort::No || attempt.outcome != Outcome::Open {
            sees(D::Abort("given up".into()));
        }
        if (linked && w.link.broken) || matches!(stage, Preparing | Receiving) && !linked {
            sees(D::Failed("connection lost".into()));
        }
    }
}

fn qemu_dies(mut w: World, h: usize) -> World {
    let host = &mut w.hosts[h];
    let loaded = matches!(host.qemu, Qemu::Loaded | Qemu::Runs);
    // Nobody can know whether it had executed: the VM crashed at its owner.
    let may_run = host.journal == Journal::Destination(destination::Stage::Activating);
    w.crashed |= (loaded && may_run) || host.qemu == Qemu::Runs;
    host.qemu = if loaded && !may_run { Qemu::DiedLoaded } else { Qemu::Dead };
    if w.link.attempt == host.attempt {
        w.break_link();
    }
    w
}

fn dies(mut w: World, h: usize) -> World {
    w.crashed |= usize::from(w.record.owner) == h || usize::from(w.latest) == h;
    w.forget_asks(h);
    let host = &mut w.hosts[h];
    (host.up, host.role, host.qemu, host.sealed) = (false, Role::Idle, Qemu::None, true);
    w.break_link();
    w
}
