//! Runs: one seed each, alone or by the million.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agent::core::VmRecord;
use controller::core::Vm;
use serde::Serialize;
use types::{AttemptPhase, Outcome, RunState};

use crate::controller::{Controller, VM};
use crate::faults::{FAULTS, Fault};
use crate::host::{Does, Host, Migration, Qemu};
use crate::oracle::Violation;
use crate::world::{Event, World};

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Migrations that were asked for.
    pub migrations: u32,
    /// Of these: completed, failed, cancelled.
    pub outcomes: [u32; 3],
    /// Faults that struck.
    pub faults: u32,
    /// Of each kind, in the order of [`FAULTS`].
    pub by_kind: [u32; FAULTS.len()],
    /// What was broken, if anything.
    pub violation: Option<Violation>,
}

/// What many runs came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Migrations that were asked for.
    pub migrations: u64,
    /// Migrations that completed.
    pub completed: u64,
    /// Migrations that failed: the VM stayed.
    pub failed: u64,
    /// Migrations that were cancelled: the VM stayed.
    pub cancelled: u64,
    /// Faults that struck; lost, doubled and late messages come on top.
    pub faults: u64,
    /// Faults of each kind.
    pub by_kind: Vec<(Fault, u64)>,
    /// Runs in which something was broken, at most ten.
    pub violations: Vec<Report>,
}

/// Faults strike no later, in milliseconds of virtual time.
const TROUBLE: u64 = 400_000;
/// By then everything has come to rest.
const REST: u64 = TROUBLE + 400_000;
/// More events than any honest run has.
const MOST_EVENTS: u32 = 400_000;

fn fleet(seed: u64) -> Option<World> {
    let spec = r#"{ "name": "web01", "memory": 2097152, "machine": "pc-q35-7.2" }"#;
    let spec = serde_json::from_str(spec).ok()?;
    let mut hosts = vec![Host::new("host-a")?, Host::new("host-b")?, Host::new("host-c")?];
    let vm = Vm { start_generation: 1, ..Vm::new(spec, RunState::Running) };
    let controller = Controller::new(vm, hosts[0].id.clone());
    let mut record = VmRecord::new(VM);
    (record.instance, record.start_generation) = (Some(1), 1);
    hosts[0].disk = Some(record);
    let mut world = World::new(seed, controller, hosts);
    let state = world.oracle.afresh();
    let qemu =
        Qemu { does: Does::Runs, migration: Migration::None, state, complete: true, sealed: true };
    world.hosts[0].qemus.insert(1, qemu);
    world.started = true;
    for host in 0..world.hosts.len() {
        world.schedule(0, Event::Agent { host });
    }
    world.schedule(50, Event::User);
    Some(world)
}

/// One run.
pub fn run_one(seed: u64) -> Report {
    finished(seed, false).0
}

/// One run again, with its story.
pub fn replay(seed: u64) -> (Report, Vec<String>) {
    finished(seed, true)
}

fn finished(seed: u64, story: bool) -> (Report, Vec<String>) {
    play(seed, story, fleet(seed))
}

fn play(seed: u64, story: bool, world: Option<World>) -> (Report, Vec<String>) {
    let mut report = Report {
        seed,
        migrations: 0,
        outcomes: [0; 3],
        faults: 0,
        by_kind: [0; FAULTS.len()],
        violation: None,
    };
    let Some(mut world) = world else { return (report, Vec::new()) };
    world.story = story.then(Vec::new);
    let mut events = 0;
    while world.oracle.violation().is_none() && !at_rest(&world) {
        if world.now > REST || events > MOST_EVENTS {
            let what = unrest(&world);
            world.oracle.breaks(world.now, what);
            break;
        }
        let enough =
            world.migrations >= world.faults.migrations && world.controller.own.attempt.is_none();
        if world.now > TROUBLE || enough {
            world.faults.active = false;
            world.faults.migrations = world.migrations;
        }
        world.step();
        events += 1;
    }
    check_attempts(&mut world);
    report.migrations = world.migrations;
    for attempt in &world.controller.attempts {
        match attempt.record.report.outcome {
            Some(Outcome::Completed) => report.outcomes[0] += 1,
            Some(Outcome::Cancelled) => report.outcomes[2] += 1,
            _ => report.outcomes[1] += 1,
        }
    }
    report.faults = world.faults.happened;
    report.by_kind = world.faults.counts;
    report.violation = world.oracle.violation().cloned();
    (report, world.story.take().unwrap_or_default())
}

/// Everything asked for has been done, and nothing is left over.
fn at_rest(world: &World) -> bool {
    !world.faults.active && unrest(world).is_empty()
}

/// What is not at rest.
fn unrest(world: &World) -> String {
    let owner = &world.controller.own.owner;
    for host in &world.hosts {
        let Some(agent) = &host.agent else { return format!("I4: {} has no agent", host.id) };
        if let Some(outgoing) = &agent.record.outgoing {
            return format!("I4: {} is still a source: {:?}", host.id, outgoing.stage);
        }
        if let Some(incoming) = &agent.record.incoming {
            return format!("I4: {} is still a destination: {:?}", host.id, incoming.stage);
        }
        let runs = host.qemus.values().filter(|q| q.runs()).count();
        if (host.id == *owner) != (runs == 1) {
            return format!("I4: {runs} QEMUs of the VM run on {}", host.id);
        }
        if host.qemus.len() != runs {
            return format!("I4: a QEMU is left over on {}", host.id);
        }
    }
    match world.controller.attempts.iter().find(|a| a.record.phase != AttemptPhase::Done) {
        Some(attempt) => format!("I4: attempt {} has not ended", attempt.record.id),
        None => String::new(),
    }
}

fn check_attempts(world: &mut World) {
    for attempt in &world.controller.attempts {
        let record = &attempt.record;
        if record.report.outcome == Some(Outcome::Completed) && record.abort.is_some() {
            world.oracle.breaks(world.now, "I5: completed, though it was given up");
            return;
        }
        if record.cancelled && record.report.outcome == Some(Outcome::Failed) {
            world.oracle.breaks(world.now, "I5: cancelled, but it says that it failed");
            return;
        }
    }
}

/// Runs with rising seeds from `seed` until `count` migrations have been asked
/// for, on `threads` threads. `stop` ends it early.
pub fn run_many(seed: u64, count: u64, threads: usize, stop: &AtomicBool) -> Summary {
    let (next, made) = (AtomicU64::new(seed), AtomicU64::new(0));
    let work = || {
        let mut summary = Summary::default();
        let mut kinds = [0u64; FAULTS.len()];
        while made.load(Ordering::Relaxed) < count && !stop.load(Ordering::Relaxed) {
            let report = run_one(next.fetch_add(1, Ordering::Relaxed));
            made.fetch_add(report.migrations.into(), Ordering::Relaxed);
            summary.runs += 1;
            summary.migrations += u64::from(report.migrations);
            summary.completed += u64::from(report.outcomes[0]);
            summary.failed += u64::from(report.outcomes[1]);
            summary.cancelled += u64::from(report.outcomes[2]);
            summary.faults += u64::from(report.faults);
            for (sum, n) in kinds.iter_mut().zip(report.by_kind) {
                *sum += u64::from(n);
            }
            if report.violation.is_some() {
                summary.violations.push(report);
                stop.store(summary.violations.len() >= 10, Ordering::Relaxed);
            }
        }
        summary.by_kind = FAULTS.iter().map(|(fault, _)| *fault).zip(kinds).collect();
        summary
    };
    let parts: Vec<Summary> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    parts.into_iter().fold(Summary::default(), merge)
}

fn merge(mut a: Summary, b: Summary) -> Summary {
    a.runs += b.runs;
    a.migrations += b.migrations;
    a.completed += b.completed;
    a.failed += b.failed;
    a.cancelled += b.cancelled;
    a.faults += b.faults;
    if a.by_kind.is_empty() {
        a.by_kind = b.by_kind;
    } else {
        for (sum, n) in a.by_kind.iter_mut().zip(b.by_kind) {
            sum.1 += n.1;
        }
    }
    a.violations.extend(b.violations);
    a.violations.sort_by_key(|r| r.seed);
    a.violations.truncate(10);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_their_seeds_and_every_fault_strikes() {
        let summary = run_many(1, 2_000, 2, &AtomicBool::new(false));
        assert!(summary.violations.is_empty(), "{:#?}", summary.violations);
        assert!(summary.completed > 300 && summary.failed > 300 && summary.cancelled > 30);
        for (fault, times) in &summary.by_kind {
            assert!(*times > 0, "{fault:?}");
        }
        for seed in 1..20 {
            let (report, story) = replay(seed);
            assert_eq!(format!("{report:?}"), format!("{:?}", run_one(seed)));
            assert_eq!(story, replay(seed).1);
            assert!(!story.is_empty());
        }
    }

    #[test]
    fn a_shell_that_resumes_because_a_socket_closed_is_caught() {
        let caught = (1..400).find_map(|seed| {
            let mut world = fleet(seed)?;
            world.faults.careless = true;
            play(seed, false, Some(world)).0.violation
        });
        let what = caught.expect("within 400 runs").what;
        assert!(what.starts_with("I1") || what.starts_with("I3"), "{what}");
    }
}
