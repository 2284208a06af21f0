//! Carrying a plan out: which of its moves begin now, and what became of the others.

use std::collections::BTreeMap;

use types::{AttemptId, HostId, MoveState, Outcome, PlanGoal, PlanRun, RunMove, VmName};

/// How often what is left of a drain or a return is planned anew.
const MOST_REPLANS: u32 = 3;
/// How often one VM is tried.
const MOST_TRIES: usize = 3;

/// Why a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its host is being emptied: it shall come back.
    Displace,
    /// Because somebody wants it elsewhere, or back.
    Settle,
}

/// The home of a VM that leaves `from`: a displaced VM keeps the home it has, and one
/// that is moved from its home for good has none.
pub fn home(now: Option<&HostId>, from: &HostId, purpose: Purpose) -> Option<HostId> {
    let other = now.filter(|home| *home != from).cloned();
    match purpose {
        Purpose::Displace => other.or_else(|| Some(from.clone())),
        Purpose::Settle => other,
    }
}

/// Where a VM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The host that owns it.
    pub owner: HostId,
    /// It is to run.
    pub runs: bool,
    /// The migration of it that is under way.
    pub attempt: Option<AttemptId>,
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Both sides are through: what it held on its source is free.
    pub done: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it did not complete.
    pub reason: Option<String>,
}

/// The world, as far as a plan is concerned.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// VMs that the plan moves; one that is missing has been removed.
    pub vms: BTreeMap<VmName, Whereabouts>,
    /// Attempts of the plan; one that is missing has not begun.
    pub attempts: BTreeMap<AttemptId, Tried>,
}

/// Takes in how attempts ended and gives an id to every move that may begin. The
/// moves whose attempts are to be begun (also those that were to begin when the
/// controller ended) are in the answer, by their places.
pub fn advance(
    run: &mut PlanRun,
    world: &World,
    mut fresh: impl FnMut() -> AttemptId,
) -> Vec<usize> {
    for planned in &mut run.moves {
        if let MoveState::Moving { attempt } = planned.state
            && let Some(tried) = world.attempts.get(&attempt)
            && tried.done
        {
            planned.state = became(attempt, tried);
        }
    }
    for i in 0..run.moves.len() {
        let earlier = |after: &usize| run.moves.get(*after).is_none_or(|m| m.state.ended());
        if run.moves[i].state != MoveState::Waiting {
            continue;
        }
        if run.stopping {
            run.moves[i].state = skipped("the plan was stopped");
        } else if run.moves[i].planned.after.iter().all(earlier)
            && let Some(state) = turn(&run.moves[i], world, &mut fresh)
        {
            run.moves[i].state = state;
        }
    }
    let to_begin = |m: &RunMove| match m.state {
        MoveState::Moving { attempt } => !world.attempts.contains_key(&attempt),
        _ => false,
    };
    (0..run.moves.len()).filter(|i| to_begin(&run.moves[*i])).collect()
}

fn became(attempt: AttemptId, tried: &Tried) -> MoveState {
    match (tried.outcome, &tried.reason) {
        (Some(Outcome::Completed), _) => MoveState::Done { attempt: Some(attempt) },
        (_, Some(why)) => MoveState::Failed { why: why.clone() },
        (Some(outcome), None) => MoveState::Failed { why: outcome.to_string() },
        (None, None) => MoveState::Failed { why: "it ended without an outcome".to_owned() },
    }
}

/// What a move becomes whose turn it is; `None`: it still waits.
fn turn(
    planned: &RunMove,
    world: &World,
    fresh: &mut impl FnMut() -> AttemptId,
) -> Option<MoveState> {
    let planned = &planned.planned;
    let Some(vm) = world.vms.get(&planned.vm) else {
        return Some(skipped("the VM has been removed"));
    };
    if vm.attempt.is_some() {
        // Somebody else moves it; then it is looked at again.
        return None;
    }
    Some(match &planned.from {
        _ if !vm.runs => skipped("the VM does not run any more"),
        _ if vm.owner == planned.to => MoveState::Done { attempt: None },
        Some(from) if vm.owner != *from => skipped(format!("it is on {} by now", vm.owner)),
        None => skipped("a plan starts no VM"),
        Some(_) => MoveState::Moving { attempt: fresh() },
    })
}

fn skipped(why: impl Into<String>) -> MoveState {
    MoveState::Skipped { why: why.into() }
}

/// Every move has ended.
pub fn over(run: &PlanRun) -> bool {
    run.moves.iter().all(|m| m.state.ended())
}

/// What is left may be planned anew: something failed or came up meanwhile, nobody
/// wants it to stop, and it has not been tried too often.
pub fn again(run: &PlanRun) -> bool {
    let lasting = matches!(run.goal, PlanGoal::Drain { .. } | PlanGoal::Restore { .. });
    over(run) && lasting && !run.stopping && run.replans < MOST_REPLANS
}

/// Adds the moves of a later plan, but those of VMs that were tried too often.
/// Whether any was added.
pub fn extend(run: &mut PlanRun, moves: Vec<types::PlannedMove>) -> bool {
    let first = run.moves.len();
    let tries = |run: &PlanRun, vm: &VmName| {
        let failed = |m: &&RunMove| matches!(m.state, MoveState::Failed { .. });
        run.moves.iter().filter(failed).filter(|m| m.planned.vm == *vm).count()
    };
    let mut place = BTreeMap::new();
    for (at, mut planned) in moves.into_iter().enumerate() {
        if tries(run, &planned.vm) >= MOST_TRIES {
            continue;
        }
        // What it waits for and is not among them will not come.
        planned.after = planned.after.iter().filter_map(|a| place.get(a).copied()).collect();
        place.insert(at, run.moves.len());
        run.moves.push(RunMove { planned, state: MoveState::Waiting });
    }
    run.moves.len() > first
}

#[cfg(test)]
mod tests {
    use types::{PlanId, PlannedMove};
    use uuid::Uuid;

    use super::*;

    fn planned(vm: &str, from: &str, to: &str, after: &[usize]) -> RunMove {
        let planned = PlannedMove {
            vm: vm.parse().unwrap(),
            from: Some(from.parse().unwrap()),
            to: to.parse().unwrap(),
            wave: 0,
            after: after.to_vec(),
            start_seconds: 0.0,
            seconds: 1.0,
            choices: 1,
            next_best: None,
            gain: None,
        };
        RunMove { planned, state: MoveState::Waiting }
    }

    fn run(moves: Vec<RunMove>) -> PlanRun {
        PlanRun {
            id: PlanId(Uuid::nil()),
            goal: PlanGoal::Drain { hosts: vec!["a".parse().unwrap()] },
            by: "admin".to_owned(),
            began: String::new(),
            ended: None,
            seconds: None,
            forecast_seconds: 1.0,
            stopping: false,
            replans: 0,
            moves,
            blocked: Vec::new(),
            left: Vec::new(),
        }
    }

    fn on(host: &str) -> Whereabouts {
        Whereabouts { owner: host.parse().unwrap(), runs: true, attempt: None }
    }

    fn ids() -> impl FnMut() -> AttemptId {
        let mut next = 0;
        move || {
            next += 1;
            AttemptId(Uuid::from_u128(next))
        }
    }

    fn tried(outcome: Option<Outcome>, reason: Option<&str>) -> Tried {
        Tried { done: outcome.is_some(), outcome, reason: reason.map(str::to_owned) }
    }

    fn words(run: &PlanRun) -> Vec<&'static str> {
        run.moves.iter().map(|m| m.state.word()).collect()
    }

    #[test]
    fn home_is_where_a_vm_was_before_it_was_first_displaced() {
        let host = |name: &str| -> HostId { name.parse().unwrap() };
        let cases = [
            (None, "a", Purpose::Displace, Some("a")),
            (Some("a"), "a", Purpose::Displace, Some("a")),
            (Some("a"), "b", Purpose::Displace, Some("a")),
            (None, "a", Purpose::Settle, None),
            (Some("a"), "a", Purpose::Settle, None),
            (Some("a"), "b", Purpose::Settle, Some("a")),
        ];
        for (now, from, purpose, expected) in cases {
            let now = now.map(host);
            let got = home(now.as_ref(), &host(from), purpose);
            assert_eq!(got, expected.map(host), "{now:?} {from} {purpose:?}");
        }
    }

    #[test]
    fn moves_begin_when_those_before_them_have_ended_however() {
        let mut run = run(vec![
            planned("1", "a", "b", &[]),
            planned("2", "a", "b", &[0]),
            planned("3", "a", "c", &[1]),
        ]);
        let mut world = World::default();
        for vm in ["1", "2", "3"] {
            world.vms.insert(vm.parse().unwrap(), on("a"));
        }
        let mut fresh = ids();
        assert_eq!(advance(&mut run, &world, &mut fresh), [0]);
        // It is told again until the attempt is there: the controller may have died.
        assert_eq!(advance(&mut run, &world, &mut fresh), [0]);
        let first = AttemptId(Uuid::from_u128(1));
        world.attempts.insert(first, tried(None, None));
        assert!(advance(&mut run, &world, &mut fresh).is_empty());
        assert_eq!(words(&run), ["moving", "waiting", "waiting"]);
        world.attempts.insert(first, tried(Some(Outcome::Failed), Some("no link")));
        assert_eq!(advance(&mut run, &world, &mut fresh), [1]);
        assert_eq!(run.moves[0].state, MoveState::Failed { why: "no link".to_owned() });
        world.attempts.insert(AttemptId(Uuid::from_u128(2)), tried(Some(Outcome::Completed), None));
        assert_eq!(advance(&mut run, &world, &mut fresh), [2]);
        assert_eq!(words(&run), ["failed", "done", "moving"]);
        assert!(!over(&run) && !again(&run));
    }

    #[test]
    fn what_changed_meanwhile_is_left_alone() {
        let cases = [
            (None, "skipped"),
            (Some(on("b")), "done"),
            (Some(on("c")), "skipped"),
            (Some(Whereabouts { runs: false, ..on("a") }), "skipped"),
            (Some(Whereabouts { attempt: Some(AttemptId(Uuid::max())), ..on("a") }), "waiting"),
            (Some(on("a")), "moving"),
        ];
        for (seen, expected) in cases {
            let mut run = run(vec![planned("1", "a", "b", &[])]);
            let vms = seen.iter().map(|w| ("1".parse().unwrap(), w.clone())).collect();
            let world = World { vms, ..World::default() };
            advance(&mut run, &world, ids());
            assert_eq!(words(&run), [expected], "{seen:?}");
        }
    }

    #[test]
    fn a_plan_that_is_stopped_begins_nothing_more_and_ends_what_it_began() {
        let mut run = run(vec![planned("1", "a", "b", &[]), planned("2", "a", "b", &[0])]);
        let mut world = World::default();
        world.vms.insert("1".parse().unwrap(), on("a"));
        let mut fresh = ids();
        advance(&mut run, &world, &mut fresh);
        world.attempts.insert(AttemptId(Uuid::from_u128(1)), tried(None, None));
        run.stopping = true;
        assert!(advance(&mut run, &world, &mut fresh).is_empty());
        assert_eq!(words(&run), ["moving", "skipped"]);
        world.attempts.insert(AttemptId(Uuid::from_u128(1)), tried(Some(Outcome::Completed), None));
        advance(&mut run, &world, &mut fresh);
        assert!(over(&run) && !again(&run));
    }

    #[test]
    fn later_plans_follow_and_nobody_is_tried_for_ever() {
        let mut run = run(vec![planned("1", "a", "b", &[]), planned("2", "a", "b", &[])]);
        run.moves[0].state = MoveState::Failed { why: "x".to_owned() };
        run.moves[1].state = MoveState::Done { attempt: None };
        assert!(again(&run));
        let more =
            || vec![planned("1", "a", "c", &[]).planned, planned("3", "a", "c", &[0]).planned];
        assert!(extend(&mut run, more()));
        assert_eq!(run.moves[3].planned.after, [2]);
        for i in 2..4 {
            run.moves[i].state = MoveState::Failed { why: "x".to_owned() };
        }
        assert!(extend(&mut run, more()));
        for i in 4..6 {
            run.moves[i].state = MoveState::Failed { why: "x".to_owned() };
        }
        assert!(extend(&mut run, more()), "3 was tried twice only");
        assert_eq!(run.moves.len(), 7);
        assert!(run.moves[6].planned.after.is_empty());
        run.replans = MOST_REPLANS;
        run.moves[6].state = MoveState::Done { attempt: None };
        assert!(!again(&run));
    }
}
