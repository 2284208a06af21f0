use proptest::prelude::*;

use super::compound::Compound;
use super::regret::Regret;
use super::state::State;
use super::*;
use crate::chance::Chance;

/// A model from a few numbers: everything that a model can have, some of it
/// contradictory from the beginning.
fn model(seed: u64, hosts: usize, vms: usize, fleet: bool) -> Model {
    let mut rng = Chance::new(seed);
    let resources = vec![
        Resource { transient: true, weight: 3 },
        Resource { transient: false, weight: 10 },
        Resource { transient: false, weight: 0 },
    ];
    let host = |rng: &mut Chance| Host {
        capacity: (0..3).map(|_| 60 + rng.below(60) as i64).collect(),
        safety: (0..3).map(|_| 20 + rng.below(60) as i64).collect(),
        domain: rng.below(4) as u32,
        neighbourhood: rng.below(2) as u32 * 7,
        running_cost: if fleet { rng.below(200) as i64 } else { 0 },
    };
    let hosts: Vec<Host> = (0..hosts).map(|_| host(&mut rng)).collect();
    let groups: Vec<Group> = (0..vms / 2)
        .map(|g| Group {
            rule: GroupRule {
                exclusive: rng.below(2) == 0,
                spread: rng.below(3) as u32,
                pull: if fleet { rng.below(41) as i64 - 20 } else { 0 },
                counts_moves: rng.below(2) == 0,
            },
            needs: if g > 0 && rng.below(4) == 0 { vec![rng.below(g) as u32] } else { vec![] },
        })
        .collect();
    let count = hosts.len();
    let host_sets: Vec<HostSet> =
        (0..3).map(|i| HostSet::of(count, |h| (h + i) % 3 != 0)).collect();
    let vm = |rng: &mut Chance| Vm {
        demand: (0..3).map(|_| rng.below(18) as i64).collect(),
        groups: {
            let mut of: Vec<u32> =
                (0..1 + rng.below(2)).map(|_| rng.below(groups.len()) as u32).collect();
            of.sort_unstable();
            of.dedup();
            of
        },
        origin: if fleet && rng.below(5) == 0 { NOWHERE } else { rng.below(count) as u32 },
        move_cost: rng.below(20) as i64,
        allowed: (fleet && rng.below(4) == 0).then(|| rng.below(3) as u32),
        preferred: (fleet && rng.below(4) == 0).then(|| (rng.below(3) as u32, 5)),
        unplaced_cost: 100_000,
        stay_cost: 50_000,
    };
    let vms = (0..vms).map(|_| vm(&mut rng)).collect();
    let rows: Vec<u32> = (0..count * count).map(|_| rng.below(3) as u32).collect();
    Model {
        resources,
        vms,
        groups,
        host_sets,
        balances: vec![Balance { first: 0, second: 1, target: 2, weight: 4 }],
        distance: Distance::from_rows(count, &rows, 5),
        group_move_weight: 7,
        hosts,
    }
}

/// A thread a job, begun in reverse order.
struct Threads;

impl Crew for Threads {
    fn run(&self, jobs: Vec<Job<'_>>) {
        std::thread::scope(|scope| {
            for job in jobs.into_iter().rev() {
                scope.spawn(job);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The cost that is kept up to date is the cost that is counted anew; a move that
    /// is allowed breaks nothing; what it is said to change is what it changes.
    #[test]
    fn bookkeeping_is_right(seed: u64, fleet: bool, steps in prop::collection::vec(any::<u64>(), 80)) {
        let model = model(seed, 7, 30, fleet);
        let core = Core::new(&model).unwrap();
        let mut state = State::new(&core, &model.origins());
        prop_assert_eq!(state.cost, cost(&model, &state.place));
        for step in steps {
            let (vm, to) = ((step % 30) as u32, (step / 30 % 7) as u32);
            let before = broken(&model, &state.place);
            if step % 3 == 0 {
                let other = (step / 300 % 30) as u32;
                let Some(delta) = (vm != other).then(|| state.swap(vm, other)).flatten() else { continue };
                state.swap_by(vm, other, delta);
            } else {
                let Some(delta) = state.shift(vm, to) else { continue };
                prop_assert_eq!(delta, state.delta(vm, to));
                state.shift_by(vm, to, delta);
            }
            prop_assert_eq!(state.cost, cost(&model, &state.place));
            for new in broken(&model, &state.place) {
                // What was broken may stay so, on the hosts and groups it was.
                prop_assert!(before.iter().any(|old| evaluate::covers(old, &new)), "{new:?}");
            }
        }
    }

    /// Moves that are made together break nothing in the end, change the cost by what
    /// is told, and leave no trace if they are refused.
    #[test]
    fn compounds_are_all_or_nothing(seed: u64, fleet: bool, steps in prop::collection::vec(any::<u64>(), 80)) {
        let model = model(seed, 7, 30, fleet);
        let core = Core::new(&model).unwrap();
        let mut state = State::new(&core, &model.origins());
        let mut compound = Compound::default();
        for step in steps {
            let before = (broken(&model, &state.place), state.place.clone(), state.cost);
            compound.clear();
            for i in 0..2 + step % 3 {
                let chance = step.rotate_left(i as u32 * 13);
                compound.and((chance % 30) as u32, (chance / 30 % 7) as u32);
            }
            let Some(estimate) = compound.estimate(&state) else { continue };
            let mut told = 0;
            let kept = compound.apply(&mut state, |delta| {
                told = delta;
                step % 4 > 0
            });
            prop_assert_eq!(state.cost, cost(&model, &state.place));
            if !kept {
                prop_assert_eq!((state.place, state.cost), (before.1.clone(), before.2));
                state = State::new(&core, &before.1);
                continue;
            }
            prop_assert_eq!(state.cost - before.2, told);
            let steps = compound.steps().len() as i64;
            prop_assert!(fleet || (told - estimate).abs() <= steps * model.group_move_weight);
            for new in broken(&model, &state.place) {
                prop_assert!(before.0.iter().any(|old| evaluate::covers(old, &new)), "{new:?}");
            }
        }
    }

    /// Where nobody regrets anything, loads cost no more than the fleet as a whole must.
    #[test]
    fn regret_names_what_could_be_saved(seed: u64) {
        let mut model = model(seed, 7, 30, false);
        model.groups.clear();
        model.vms.iter_mut().for_each(|vm| vm.groups.clear());
        let core = Core::new(&model).unwrap();
        let state = State::new(&core, &model.origins());
        let mut regret = Regret::default();
        regret.look(&state, &[0, 1, 2, 3, 4, 5, 6]);
        let sums = |of: &dyn Fn(&Host, &[i64]) -> i64| -> i64 {
            let used = |h: usize, r: usize| -> i64 {
                let here = model.vms.iter().filter(|vm| vm.origin as usize == h);
                here.map(|vm| vm.demand[r]).sum()
            };
            let each = model.hosts.iter().enumerate();
            each.map(|(h, host)| of(host, &[used(h, 0), used(h, 1), used(h, 2)])).sum()
        };
        let loads = model.resources.iter().enumerate().map(|(r, resource)| {
            resource.weight * sums(&|host, used| used[r] - host.safety[r]).max(0)
        });
        let b = model.balances[0];
        let balance = sums(&|host, used| {
            let free = |r: usize| host.capacity[r] - used[r];
            b.target * free(b.first) - free(b.second)
        });
        let least = loads.sum::<i64>() + b.weight * balance.max(0);
        let mut rng = Chance::new(seed);
        prop_assert_eq!(state.cost, cost(&model, &state.place));
        prop_assert!(state.cost >= least);
        prop_assert_eq!(regret.pick(&mut rng).is_some(), state.cost > least);
    }

    /// Whatever is asked, the answer breaks nothing that was not broken, costs what it
    /// says, never more than staying, and is the same whoever works on it.
    #[test]
    fn answers_are_valid_and_the_same_for_all_crews(seed: u64, fleet: bool, workers in 1usize..4) {
        let model = model(seed, 9, 40, fleet);
        let core = Core::new(&model).unwrap();
        let options = Options { seed, moves: 30_000, workers };
        let found = solve(&core, &options, &Alone, &|| false);
        prop_assert_eq!(worse(&model, &found.place), None);
        prop_assert_eq!(found.cost, cost(&model, &found.place));
        prop_assert!(found.evaluated <= options.moves);
        let again = solve(&core, &options, &Threads, &|| false);
        prop_assert_eq!(found, again);
    }

    /// A VM that may not stay leaves, if any host could take it as things stand.
    #[test]
    fn who_must_leave_leaves(seed: u64) {
        let mut model = model(seed, 6, 24, false);
        model.host_sets.push(HostSet::of(6, |h| h != 0));
        model.groups.clear();
        for vm in &mut model.vms {
            vm.groups.clear();
            vm.allowed = Some(model.host_sets.len() as u32 - 1);
        }
        let core = Core::new(&model).unwrap();
        let found = solve(&core, &Options { seed, moves: 0, workers: 2 }, &Alone, &|| false);
        let state = State::new(&core, &found.place);
        for vm in (0..24).filter(|vm| found.place[*vm as usize] == 0) {
            prop_assert!(repair::best(&state, vm, 0).is_none());
        }
    }
}

#[test]
fn stopping_early_gives_the_best_so_far() {
    let model = model(3, 9, 40, true);
    let core = Core::new(&model).unwrap();
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let options = Options { seed: 1, moves: 10_000_000, workers: 1 };
    let found = solve(&core, &options, &Alone, &stop);
    assert!(found.evaluated < options.moves / 100);
    assert_eq!(worse(&model, &found.place), None);
}

#[test]
fn room_is_made_by_moving_others() {
    // Host 0 must be left by a VM of 6; 1 has 3 free and 2 has 4, so one of 1's must go.
    let host = || Host {
        capacity: vec![10],
        safety: vec![10],
        domain: 0,
        neighbourhood: 0,
        running_cost: 0,
    };
    let vm = |demand: i64, origin: u32, allowed| Vm {
        demand: vec![demand],
        groups: vec![],
        origin,
        move_cost: 1,
        allowed,
        preferred: None,
        unplaced_cost: 1000,
        stay_cost: 1000,
    };
    let model = Model {
        resources: vec![Resource { transient: false, weight: 1 }],
        hosts: vec![host(), host(), host()],
        vms: vec![vm(6, 0, Some(0)), vm(3, 1, Some(0)), vm(4, 1, Some(0)), vm(6, 2, Some(0))],
        host_sets: vec![HostSet::of(3, |h| h != 0)],
        ..Model::default()
    };
    let core = Core::new(&model).unwrap();
    let found = solve(&core, &Options { seed: 1, moves: 0, workers: 1 }, &Alone, &|| false);
    assert_eq!(found.place, [1, 2, 1, 2]);
    assert_eq!(broken(&model, &found.place), []);
}

#[test]
fn contradictory_models_are_refused() {
    type Spoil = fn(&mut Model);
    let cases: &[(Spoil, &str)] = &[
        (|m| m.vms[0].demand = vec![1], "VM 0 has not one amount"),
        (|m| m.vms[0].demand[0] = -1, "VM 0 has a negative"),
        (|m| m.vms[1].origin = 99, "VM 1 is on a host"),
        (|m| m.vms[1].groups = vec![99], "VM 1 is in a group"),
        (|m| m.vms[1].groups = vec![0, 0], "twice in one group"),
        (|m| m.vms[1].allowed = Some(99), "set of hosts"),
        (|m| m.hosts[2].capacity.clear(), "host 2 has not one amount"),
        (|m| m.hosts[2].safety[0] = -1, "host 2 has a negative"),
        (|m| m.groups[0].needs = vec![99], "group 0 needs"),
        (|m| m.balances[0].first = 9, "a balance names"),
        (|m| m.resources[0].weight = -1, "a weight is negative"),
        (|m| m.resources[0].weight = i64::MAX, "too large"),
        (|m| m.vms[0].unplaced_cost = i64::MAX, "too large"),
    ];
    for (spoil, word) in cases {
        let mut model = model(1, 5, 10, true);
        spoil(&mut model);
        let told = Core::new(&model).unwrap_err().to_string();
        assert!(told.contains(word), "{told}");
    }
}
