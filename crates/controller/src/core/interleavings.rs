//! Whatever hosts and users ask in whatever order: one owner for each epoch.

use std::collections::BTreeMap;

use api::body::{AttemptEvent, AttemptPatch, OwnershipRequest};
use proptest::prelude::*;
use types::{
    AttemptId, AttemptPhase, Epoch, HostId, Incarnation, Outcome, Ownership, Problem, RunState,
    Side, VmId,
};
use uuid::Uuid;

use super::{Attempt, Caller, Note, Request, Vm, cancel, claim, event, give_back, migrate};
use super::{reassert, settle};

const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];
const VM: VmId = VmId(Uuid::from_u128(7));

/// What somebody asks. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Migrate { to: usize },
    Cancel,
    Own { kind: Kind, host: Who, attempt: usize, epoch: i64, incarnation: u64 },
    Event { host: Who, side: Side, attempt: usize, seq: u64, patch: Patch },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Claim,
    GiveBack,
    Reassert,
    Settle,
}

/// The host that would be right, or any.
#[derive(Debug, Clone, Copy)]
enum Who {
    Right,
    Any(usize),
}

#[derive(Debug, Clone, Copy)]
struct Patch {
    phase: Option<AttemptPhase>,
    abort: bool,
    ended: bool,
    rounds: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || prop_oneof![4 => Just(Who::Right), 1 => (0..3usize).prop_map(Who::Any)];
    let kind = prop_oneof![
        3 => Just(Kind::Claim), 1 => Just(Kind::GiveBack),
        1 => Just(Kind::Reassert), 2 => Just(Kind::Settle),
    ];
    let phase = prop::option::of(prop_oneof![
        Just(AttemptPhase::Copying),
        Just(AttemptPhase::Switching),
        Just(AttemptPhase::Done),
    ]);
    let patch = (phase, prop::bool::weighted(0.1), any::<bool>(), 0..9u64)
        .prop_map(|(phase, abort, ended, rounds)| Patch { phase, abort, ended, rounds });
    // Mostly the newest attempt at its present epoch, sometimes something stale.
    let attempt = || prop_oneof![6 => Just(0usize), 1 => 0..3usize];
    let epoch = prop_oneof![6 => Just(0i64), 1 => -2..2i64];
    let incarnation = prop_oneof![12 => Just(1u64), 1 => Just(2)];
    let side = prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let step = prop_oneof![
        3 => (0..3usize).prop_map(|to| Step::Migrate { to }),
        1 => Just(Step::Cancel),
        9 => (kind, who(), attempt(), epoch, incarnation).prop_map(
            |(kind, host, attempt, epoch, incarnation)|
            Step::Own { kind, host, attempt, epoch, incarnation }),
        4 => (who(), side, attempt(), 0..12u64, patch).prop_map(
            |(host, side, attempt, seq, patch)| Step::Event { host, side, attempt, seq, patch }),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    own: Ownership,
    vm: Vm,
    attempts: Vec<Attempt>,
    owners: BTreeMap<Epoch, HostId>,
    completed: usize,
}

fn host(index: usize) -> HostId {
    HOSTS[index].parse().unwrap()
}

impl World {
    fn new() -> Self {
        let spec = serde_json::from_str(r#"{ "name": "web01", "memory": 2097152 }"#).unwrap();
        let own = Ownership {
            owner: host(0),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            attempt: None,
            settled: true,
        };
        let owners = BTreeMap::from([(own.epoch, own.owner.clone())]);
        let vm = Vm { start_generation: 1, ..Vm::new(spec, RunState::Running) };
        Self { own, vm, attempts: Vec::new(), owners, completed: 0 }
    }

    fn migrate(&mut self, to: usize) -> Option<Result<Vec<Note>, Problem>> {
        let request = Request {
            id: AttemptId(Uuid::from_u128(self.attempts.len() as u128)),
            vm: VM,
            to: host(to),
            secret: String::new(),
            verify: false,
            blackout_budget_ms: 300,
            resting: false,
            user: "admin".into(),
            now_ms: 0,
        };
        Some(migrate(&mut self.own, &self.vm, request).map(|(attempt, notes)| {
            self.attempts.push(attempt);
            notes
        }))
    }

    /// The attempt so many before the newest.
    fn attempt(&mut self, back: usize) -> Option<&mut Attempt> {
        self.attempts.iter_mut().rev().nth(back)
    }

    fn perform(&mut self, step: &Step) -> Option<Result<Vec<Note>, Problem>> {
        match step {
            Step::Migrate { to } => self.migrate(*to),
            Step::Cancel => {
                let own = self.own.clone();
                Some(cancel(&own, self.attempt(0)?, "admin"))
            }
            Step::Own { kind, host: who, attempt, epoch, incarnation } => {
                let mut own = self.own.clone();
                let attempt = self.attempt(*attempt)?;
                let right = match kind {
                    Kind::Reassert => &attempt.record.from,
                    _ => &attempt.record.to,
                };
                let caller = who.host(right);
                let request = OwnershipRequest {
                    attempt: attempt.record.id,
                    epoch: Epoch(own.epoch.0.saturating_add_signed(*epoch)),
                    incarnation: Incarnation(*incarnation),
                };
                let answer = twice(*kind, &mut own, attempt, &caller, &request);
                self.own = own;
                Some(answer)
            }
            Step::Event { host: who, side, attempt, seq, patch } => {
                let own = self.own.clone();
                let attempt = self.attempt(*attempt)?;
                let right = match side {
                    Side::Source => &attempt.record.from,
                    Side::Destination => &attempt.record.to,
                };
                let caller = who.host(right);
                let said = patch.event(*side, *seq);
                Some(event(&own, attempt, &caller, &said, 5))
            }
        }
    }

    fn check(&mut self, before: &(Ownership, Vec<Attempt>)) {
        let (own, attempts) = before;
        assert!(self.own.epoch >= own.epoch, "the epoch rises");
        if self.own.owner != own.owner {
            assert_eq!(self.own.epoch, own.epoch.next(), "a new owner has a new epoch");
        }
        let owner = self.owners.entry(self.own.epoch).or_insert_with(|| self.own.owner.clone());
        assert_eq!(*owner, self.own.owner, "one owner for each epoch");
        assert!(self.own.settled || self.own.attempt.is_some());
        let open = |a: &&Attempt| a.record.report.outcome.is_none();
        let slot = self.attempts.iter().find(open).map(|a| a.record.id);
        assert_eq!(self.own.attempt, slot, "the slot is held until the outcome");
        assert!(self.attempts.iter().filter(open).count() <= 1);
        for (now, then) in self.attempts.iter().zip(attempts) {
            let (record, earlier) = (&now.record, &then.record);
            assert!(record.phase >= earlier.phase, "phases go forward");
            assert!(record.report.rounds >= earlier.report.rounds, "counters rise");
            assert!(!earlier.cancelled || record.cancelled);
            let outcome = record.report.outcome;
            let done = outcome.is_some() && now.source_ended;
            assert_eq!(record.phase == AttemptPhase::Done, done);
            assert_eq!(record.report.total_seconds.is_some(), done);
            match (earlier.report.outcome, outcome) {
                (Some(earlier), now) => assert_eq!(now, Some(earlier), "an outcome stays"),
                (None, Some(Outcome::Completed)) => {
                    assert_eq!(self.own.owner, record.to);
                    assert!(earlier.abort.is_none(), "what was given up does not complete");
                    self.completed += 1;
                }
                (None, Some(outcome)) => {
                    assert_eq!(self.own.owner, record.from);
                    assert_eq!(outcome == Outcome::Cancelled, record.cancelled);
                    assert!(record.report.reason.is_some());
                }
                (None, None) => {}
            }
        }
    }
}

impl Who {
    fn host(self, right: &HostId) -> HostId {
        match self {
            Self::Right => right.clone(),
            Self::Any(index) => host(index),
        }
    }
}

impl Patch {
    fn event(self, side: Side, seq: u64) -> AttemptEvent {
        let patch = AttemptPatch {
            phase: self.phase,
            abort: self.abort.then(|| "something failed".to_owned()),
            source_ended: self.ended.then_some(true),
            rounds: Some(self.rounds),
            ..AttemptPatch::default()
        };
        AttemptEvent { side, seq, event: "said".into(), detail: None, patch }
    }
}

/// Asks, and where that succeeded asks again: nothing may happen then.
fn twice(
    kind: Kind,
    own: &mut Ownership,
    attempt: &mut Attempt,
    host: &HostId,
    request: &OwnershipRequest,
) -> Result<Vec<Note>, Problem> {
    let ask = |own: &mut Ownership, attempt: &mut Attempt| {
        let caller = Caller { host, vm: VM, request };
        match kind {
            Kind::Claim => claim(own, attempt, caller),
            Kind::GiveBack => give_back(own, attempt, caller),
            Kind::Reassert => reassert(own, attempt, caller, 5),
            Kind::Settle => settle(own, attempt, caller, 5),
        }
    };
    let answer = ask(own, attempt)?;
    let first = (own.clone(), attempt.clone());
    assert_eq!(ask(own, attempt), Ok(Vec::new()), "a repeated {kind:?} is as good");
    assert_eq!((&*own, &*attempt), (&first.0, &first.1));
    Ok(answer)
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        let before = (world.own.clone(), world.attempts.clone());
        let answer = world.perform(step);
        let same = (&world.own, &world.attempts) == (&before.0, &before.1);
        match answer {
            Some(Ok(notes)) => assert_eq!(notes.is_empty(), same, "a change is told: {step:?}"),
            _ => assert!(same, "a refusal changes nothing: {step:?}"),
        }
        world.check(&before);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn there_is_one_owner_for_each_epoch(steps in steps()) {
        run(&steps);
    }
}

#[test]
fn the_steps_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        let world = run(&steps().new_tree(&mut runner).unwrap().current());
        for attempt in &world.attempts {
            let record = &attempt.record;
            let gave_back = record.abort.as_deref() == Some("destination gave it back");
            *reached.entry(format!("{:?} {gave_back}", record.report.outcome)).or_default() += 1;
        }
    }
    for outcome in [
        "Some(Completed) false",
        "Some(Failed) true",
        "Some(Failed) false",
        "Some(Cancelled) false",
    ] {
        assert!(reached.get(outcome).is_some_and(|n| *n > 10), "{reached:?}");
    }
}
