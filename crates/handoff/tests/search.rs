//! Exhaustive search over one attempt: both machines as they are, a record with
//! compare-and-swap, QEMUs, messages that are lost or late, agents that restart
//! between any two actions, QEMUs that die, a user who cancels at any moment.

use std::collections::{HashMap, HashSet, VecDeque};

use handoff::Verdict;
use handoff::destination::{self, Destination};
use handoff::source::{self, Source};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum SourceQemu {
    Runs,
    /// Stopped by us, or completed: it rests until told otherwise.
    Rests,
    /// Stopped by itself to complete: resumes by itself if the stream breaks.
    MayResume,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum DestinationQemu {
    None,
    Loading,
    Loaded,
    Runs,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
enum Ask {
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

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    source: Source,
    destination: Destination,
    source_journal: source::Stage,
    destination_journal: destination::Stage,
    sq: SourceQemu,
    dq: DestinationQemu,
    completed: bool,
    executed: bool,
    owner_is_source: bool,
    epoch: u8,
    slot: bool,
    settled: bool,
    outcome: Option<bool>,
    aborted: bool,
    ready: bool,
    asks: Vec<Ask>,
    /// A claim that left before its agent restarted; it may still arrive.
    late_claim: bool,
    told_stopped: bool,
    told_refused: bool,
    tail: bool,
    broken: bool,
    faults: u8,
    alarm: bool,
}

const FAULTS: u8 = 3;

impl World {
    fn new(gated: bool) -> Self {
        Self {
            source: Source::new(source::Stage::Preparing, gated),
            destination: Destination::new(destination::Stage::Preparing, false),
            source_journal: source::Stage::Preparing,
            destination_journal: destination::Stage::Preparing,
            sq: SourceQemu::Runs,
            dq: DestinationQemu::None,
            completed: false,
            executed: false,
            owner_is_source: true,
            epoch: 0,
            slot: true,
            settled: true,
            outcome: None,
            aborted: false,
            ready: false,
            asks: vec![Ask::Prepare],
            late_claim: false,
            told_stopped: false,
            told_refused: false,
            tail: false,
            broken: false,
            faults: 0,
            alarm: false,
        }
    }

    fn verdict(&self) -> Verdict {
        match (self.outcome, self.owner_is_source, self.epoch) {
            (Some(true), ..) => Verdict::Claimed { settled: true },
            (Some(false), ..) => Verdict::Kept,
            (None, false, _) => Verdict::Claimed { settled: false },
            (None, true, 0) => Verdict::Undecided { aborted: self.aborted },
            (None, true, _) => Verdict::GivenBack,
        }
    }

    fn ask(&mut self, ask: Ask) {
        if !self.asks.contains(&ask) {
            self.asks.push(ask);
            self.asks.sort_unstable();
        }
    }

    fn answered(&mut self, ask: Ask) {
        self.asks.retain(|a| *a != ask);
    }

    fn apply_claim(&mut self) -> bool {
        let free = self.owner_is_source && self.epoch == 0 && self.slot && !self.aborted;
        if free {
            self.owner_is_source = false;
            self.epoch = 1;
            self.settled = false;
        }
        !self.owner_is_source && self.outcome.is_none()
    }

    fn break_stream(&mut self) {
        self.broken = true;
        if self.sq == SourceQemu::MayResume && !self.completed {
            self.sq = SourceQemu::Runs;
        }
    }

    fn act_source(&mut self, action: &source::Action) {
        use source::Action as A;
        match action {
            A::Journal(stage) => self.source_journal = *stage,
            A::Hold | A::Ask => self.ask(Ask::Fresh),
            A::Stop => self.ask(Ask::Stop),
            A::Tail => self.tail = true,
            A::TellStopped => self.told_stopped = true,
            A::EndCopy { .. } => {
                self.break_stream();
                // What was told before the connection ended may still have arrived.
            }
            A::Reassert => self.ask(Ask::Reassert),
            A::Resume => self.ask(Ask::Resume),
            A::Release => self.ask(Ask::Release),
            A::Alarm(_) => self.alarm = true,
            A::BeginCopy | A::Unhold | A::Watch | A::Finish => {}
        }
    }

    fn act_destination(&mut self, action: &destination::Action) {
        use destination::Action as A;
        match action {
            A::Journal(stage) => self.destination_journal = *stage,
            A::Prepare => self.ask(Ask::Prepare),
            A::TellReady => self.ready = true,
            A::Claim => self.ask(Ask::Claim),
            A::Start => self.ask(Ask::Start),
            A::Settle => self.ask(Ask::Settle),
            A::TellRefused(_) => self.told_refused = true,
            A::GiveBack => self.ask(Ask::GiveBack),
            A::End => {
                self.answered(Ask::Prepare);
                self.ask(Ask::End);
            }
            A::Alarm(_) => self.alarm = true,
            A::Compare | A::TellRunning | A::Adopt => {}
        }
    }

    /// All ways on after the source saw something: done, or restarted after any action.
    fn source_sees(mut self, seen: source::Seen, out: &mut Vec<World>) {
        let actions = self.source.on(seen);
        for action in &actions {
            if self.faults < FAULTS {
                out.push(self.clone().restart_source());
            }
            self.act_source(action);
        }
        out.push(self);
    }

    fn destination_sees(mut self, seen: destination::Seen, out: &mut Vec<World>) {
        let actions = self.destination.on(seen);
        for action in &actions {
            if self.faults < FAULTS {
                out.push(self.clone().restart_destination());
            }
            self.act_destination(action);
        }
        out.push(self);
    }

    fn restart_source(mut self) -> Self {
        self.faults += 1;
        let gated = self.sq != SourceQemu::MayResume;
        self.source = Source::new(self.source_journal, gated);
        for ask in [Ask::Fresh, Ask::Stop, Ask::Reassert, Ask::Resume, Ask::Release] {
            self.answered(ask);
        }
        for action in self.source.on(source::Seen::Restarted) {
            self.act_source(&action);
        }
        self
    }

    fn restart_destination(mut self) -> Self {
        self.faults += 1;
        if self.asks.contains(&Ask::Claim) {
            self.late_claim = true;
        }
        self.destination = Destination::new(self.destination_journal, false);
        for ask in [Ask::Prepare, Ask::Claim, Ask::Start, Ask::Settle, Ask::GiveBack, Ask::End] {
            self.answered(ask);
        }
        let alive = !matches!(self.dq, DestinationQemu::None | DestinationQemu::Dead);
        for action in self.destination.on(destination::Seen::Restarted { alive }) {
            self.act_destination(&action);
        }
        self
    }
}

/// Everything that can happen next.
fn next(world: &World, gated: bool) -> Vec<World> {
    let mut out = Vec::new();
    happen_around(world, gated, &mut out);
    happen_at_source(world, gated, &mut out);
    happen_at_destination(world, &mut out);
    for ask in world.asks.clone() {
        answer(world, ask, &mut out);
    }
    out
}

fn happen_around(world: &World, gated: bool, out: &mut Vec<World>) {
    use SourceQemu as S;
    if world.outcome.is_none() && world.owner_is_source && !world.aborted {
        out.push(World { aborted: true, ..world.clone() });
    }
    if world.late_claim {
        let mut w = world.clone();
        w.late_claim = false;
        w.apply_claim();
        out.push(w);
    }
    if world.faults < FAULTS {
        out.push(world.clone().restart_source());
        out.push(world.clone().restart_destination());
        if !world.broken {
            let mut w = world.clone();
            w.faults += 1;
            w.break_stream();
            out.push(w);
        }
        if !matches!(world.dq, DestinationQemu::None | DestinationQemu::Dead) {
            let mut w = world.clone();
            w.faults += 1;
            w.dq = DestinationQemu::Dead;
            w.break_stream();
            out.push(w);
        }
    }
    let copying = world.source.stage() == source::Stage::Copying && !world.broken;
    if !gated && copying && world.sq == S::Runs {
        out.push(World { sq: S::MayResume, ..world.clone() });
    }
    let stopped = matches!(world.sq, S::Rests | S::MayResume);
    if stopped && !world.broken && world.dq == DestinationQemu::Loading {
        out.push(World { dq: DestinationQemu::Loaded, ..world.clone() });
    }
    if stopped && !world.broken && world.dq == DestinationQemu::Loaded && !world.completed {
        out.push(World { completed: true, sq: S::Rests, ..world.clone() });
    }
}

fn happen_at_source(world: &World, _gated: bool, out: &mut Vec<World>) {
    use source::Seen as E;
    let see = |seen: E, out: &mut Vec<World>| world.clone().source_sees(seen, out);
    let stage = world.source.stage();
    if world.ready && stage == source::Stage::Preparing {
        see(E::DestinationReady, out);
    }
    if stage == source::Stage::Copying {
        see(E::Converged, out);
    }
    if world.aborted {
        see(E::Abort("cancelled".into()), out);
    }
    if world.broken {
        see(E::Broken("connection lost".into()), out);
    }
    if world.sq == SourceQemu::MayResume && stage == source::Stage::Copying {
        see(E::StoppedItself, out);
    }
    if world.completed {
        see(E::Completed, out);
    }
    if world.told_refused {
        see(E::Refused("refused".into()), out);
    }
    if stage == source::Stage::Handing {
        see(E::Overdue, out);
        see(E::Record(world.verdict()), out);
    }
}

fn happen_at_destination(world: &World, out: &mut Vec<World>) {
    use destination::Seen as E;
    let see = |seen: E, out: &mut Vec<World>| world.clone().destination_sees(seen, out);
    if world.told_stopped {
        see(E::ToldStopped, out);
    }
    if world.dq == DestinationQemu::Dead {
        see(E::QemuDied, out);
    }
    if world.dq == DestinationQemu::Loaded {
        let mut w = world.clone();
        w.destination.on(E::Sealed);
        w.destination_sees(E::Loaded, out);
    }
    if world.aborted || world.outcome == Some(false) {
        see(E::Abort("cancelled".into()), out);
    }
    if world.broken {
        see(E::Failed("connection lost".into()), out);
    }
}

fn answer(world: &World, ask: Ask, out: &mut Vec<World>) {
    use destination::Seen as D;
    use source::Seen as S;
    let mut w = world.clone();
    w.answered(ask);
    match ask {
        Ask::Fresh => {
            let verdict = w.verdict();
            w.clone().source_sees(S::NoAnswer, out);
            w.source_sees(S::Answer(verdict), out);
        }
        Ask::Stop => {
            match w.sq {
                SourceQemu::Runs => w.sq = SourceQemu::Rests,
                SourceQemu::MayResume => return w.source_sees(S::StoppedItself, out),
                _ => {}
            }
            w.source_sees(S::Stopped, out);
        }
        Ask::Reassert => {
            let verdict = w.verdict();
            if matches!(verdict, Verdict::Undecided { .. } | Verdict::GivenBack) {
                w.epoch += 1;
                w.slot = false;
                w.settled = true;
                w.outcome = Some(false);
                w.source_sees(S::Reasserted, out);
            } else {
                w.source_sees(S::NotReasserted(verdict), out);
            }
        }
        // Both go to QEMU on one connection, which answers in order.
        Ask::Resume if w.asks.contains(&Ask::Stop) => {}
        Ask::Resume => {
            if w.sq != SourceQemu::Ended {
                w.sq = SourceQemu::Runs;
            }
            w.source_sees(S::Resumed, out);
        }
        Ask::Release => {
            w.sq = SourceQemu::Ended;
            w.source_sees(S::Gone, out);
        }
        Ask::Prepare => {
            w.dq = DestinationQemu::Loading;
            w.destination_sees(D::Prepared, out);
        }
        Ask::Claim => {
            if w.apply_claim() {
                // Applied, and the answer lost: it is asked again.
                let mut again = w.clone();
                again.ask(Ask::Claim);
                out.push(again);
                w.destination_sees(D::Claimed, out);
            } else {
                let verdict = w.verdict();
                w.destination_sees(D::NotClaimed(verdict), out);
            }
        }
        Ask::Start => {
            if w.dq == DestinationQemu::Loaded {
                w.dq = DestinationQemu::Runs;
                w.executed = true;
            }
            if w.dq == DestinationQemu::Runs {
                w.destination_sees(D::Started, out);
            }
        }
        Ask::Settle => {
            if !w.owner_is_source && w.outcome.is_none() {
                w.settled = true;
                w.slot = false;
                w.outcome = Some(true);
            }
            w.destination_sees(D::Settled, out);
        }
        Ask::GiveBack => {
            if !w.owner_is_source && w.outcome.is_none() {
                w.owner_is_source = true;
                w.epoch += 1;
                w.destination_sees(D::GivenBack, out);
            } else {
                let verdict = w.verdict();
                w.destination_sees(D::NotGivenBack(verdict), out);
            }
        }
        Ask::End => {
            w.dq = DestinationQemu::None;
            w.destination_sees(D::Gone, out);
        }
    }
}

fn violated(w: &World) -> Option<&'static str> {
    let source_runs = w.sq == SourceQemu::Runs;
    if source_runs && w.dq == DestinationQemu::Runs {
        return Some("two running");
    }
    if source_runs && w.executed {
        return Some("stale: the source runs after the destination has executed");
    }
    let destination_has = matches!(w.dq, DestinationQemu::Loaded | DestinationQemu::Runs);
    if w.sq == SourceQemu::Ended && !destination_has && !crashed(w) && !w.executed {
        return Some("lost: no copy is left");
    }
    if w.dq == DestinationQemu::Runs && w.owner_is_source {
        return Some("runs on a host that the record does not name");
    }
    if w.alarm {
        return Some("an alarm without a store that was restored");
    }
    None
}

/// The VM runs in one place and nothing more is to be done (or it crashed after the move).
fn good_end(w: &World) -> bool {
    let there = w.dq == DestinationQemu::Runs || w.executed;
    let kept = w.sq == SourceQemu::Runs && w.source.stage() == source::Stage::Kept;
    let moved = there && w.source.stage() == source::Stage::Released && w.destination.ended();
    let crashed = crashed(w) && w.sq == SourceQemu::Ended;
    (kept && !destination_holds(w)) || moved || crashed
}

/// QEMU died where nobody can know whether it had executed: the VM crashed at its owner.
fn crashed(w: &World) -> bool {
    use destination::Stage::{Activating, Settled};
    w.dq == DestinationQemu::Dead && matches!(w.destination_journal, Activating | Settled)
}

fn destination_holds(w: &World) -> bool {
    matches!(w.dq, DestinationQemu::Loading | DestinationQemu::Loaded | DestinationQemu::Runs)
}

fn search(gated: bool) -> usize {
    let start = World::new(gated);
    let mut ids: HashMap<World, usize> = HashMap::from([(start.clone(), 0)]);
    let mut worlds = vec![start];
    let mut parents: Vec<Vec<usize>> = vec![Vec::new()];
    let mut first: Vec<usize> = vec![0];
    let mut queue = VecDeque::from([0]);
    while let Some(at) = queue.pop_front() {
        let world = worlds[at].clone();
        for w in next(&world, gated) {
            let id = *ids.entry(w.clone()).or_insert_with(|| {
                worlds.push(w.clone());
                parents.push(Vec::new());
                first.push(at);
                queue.push_back(worlds.len() - 1);
                worlds.len() - 1
            });
            parents[id].push(at);
            if let Some(what) = violated(&worlds[id]) {
                panic!("{what}\n{}", story(id, &first, &worlds));
            }
        }
    }
    // From everywhere a good end can be reached.
    let mut good: HashSet<usize> = (0..worlds.len()).filter(|i| good_end(&worlds[*i])).collect();
    assert!(!good.is_empty());
    let mut stack: Vec<usize> = good.iter().copied().collect();
    while let Some(at) = stack.pop() {
        for &parent in &parents[at] {
            if good.insert(parent) {
                stack.push(parent);
            }
        }
    }
    if let Some(stuck) = (0..worlds.len()).find(|i| !good.contains(i)) {
        panic!("stuck\n{}", story(stuck, &first, &worlds));
    }
    worlds.len()
}

fn story(mut at: usize, first: &[usize], worlds: &[World]) -> String {
    let mut lines = Vec::new();
    while at != 0 {
        lines.push(format!("{:?}\n", worlds[at]));
        at = first[at];
    }
    lines.reverse();
    lines.join("\n")
}

#[test]
fn never_two_never_none_never_stale_with_the_gate() {
    let states = search(true);
    assert!(states > 1_000, "only {states} states: the search has lost its way");
}

#[test]
fn never_two_never_none_never_stale_without_the_gate() {
    let states = search(false);
    assert!(states > 1_000, "only {states} states: the search has lost its way");
}
