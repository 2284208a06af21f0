use proptest::prelude::*;

use super::*;

const GBIT: Rate = Rate(1_000_000_000);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Hosts with free room, each with a link of its own.
fn hosts(free: &[i64]) -> Problem {
    let host = |(i, free): (usize, &i64)| Host {
        free: vec![*free],
        leave: 2 * i,
        arrive: 2 * i + 1,
        ..Host::default()
    };
    Problem {
        hosts: free.iter().enumerate().map(host).collect(),
        links: vec![Link { rate: GBIT, at_once: None }; 2 * free.len()],
        ..Problem::default()
    }
}

/// A move that takes `seconds` at the full rate and three times that at half of it.
fn mov(from: usize, to: usize, needs: i64, seconds: u64) -> Move {
    let paces = vec![
        Pace { rate: GBIT, time: secs(seconds) },
        Pace { rate: Rate(GBIT.0 / 2), time: secs(3 * seconds) },
    ];
    Move { from, to, needs: vec![needs], paces, ..Move::default() }
}

fn steps(problem: &Problem) -> Vec<(usize, usize, u64, u64)> {
    let found = plan(problem, &Effort::default()).unwrap();
    replay(problem, &found, |s| s.end - s.start);
    found.steps.iter().map(|s| (s.of, s.to, s.start.as_secs(), s.end.as_secs())).collect()
}

/// Carries a plan out by `after` alone, each step as early as that allows and as
/// long as `time` says, and checks every limit at every moment.
fn replay(problem: &Problem, plan: &Plan, time: impl Fn(&Step) -> Duration) {
    let mut spans: Vec<(Duration, Duration)> = Vec::new();
    for (i, step) in plan.steps.iter().enumerate() {
        assert!(step.after.iter().all(|a| *a < i), "a step waits for a later one");
        let start = step.after.iter().map(|a| spans[*a].1).max().unwrap_or_default();
        spans.push((start, start + time(step)));
        assert_eq!(
            step.wave,
            step.after.iter().map(|a| plan.steps[*a].wave + 1).max().unwrap_or(0)
        );
    }
    // Only a start takes, so that whatever it takes from is looked at then.
    for (i, step) in plan.steps.iter().enumerate() {
        kept(problem, plan, &spans, spans[i].0, step);
    }
    for (of, m) in problem.moves.iter().enumerate() {
        let own: Vec<(usize, &Step)> =
            plan.steps.iter().enumerate().filter(|(_, s)| s.of == of).collect();
        let mut at = m.from;
        for (i, step) in &own {
            assert_eq!(step.from, at, "move {of}");
            at = step.to;
            for before in &m.after {
                let last = plan.steps.iter().rposition(|s| s.of == *before).unwrap();
                assert!(
                    spans[last].1 <= spans[*i].0,
                    "move {of} begins before move {before} has ended"
                );
            }
        }
        assert_eq!(at, m.to, "move {of}");
    }
}

/// The limits of all that `step` uses, at the moment `now`.
fn kept(
    problem: &Problem,
    plan: &Plan,
    spans: &[(Duration, Duration)],
    now: Duration,
    step: &Step,
) {
    let came = || plan.steps.iter().zip(spans).filter(|(_, s)| s.0 <= now).map(|(s, _)| s);
    let left = || plan.steps.iter().zip(spans).filter(|(_, s)| s.1 <= now).map(|(s, _)| s);
    let runs: Vec<&Step> = plan
        .steps
        .iter()
        .zip(spans)
        .filter(|(_, s)| s.0 <= now && now < s.1)
        .map(|(s, _)| s)
        .collect();
    let within = |most: Option<u32>, count: usize| most.is_none_or(|most| count <= most as usize);
    let (from, to) = (step.from, step.to);
    for (r, free) in problem.hosts[to].free.iter().enumerate() {
        let needs = |s: &Step| problem.moves[s.of].needs[r];
        let came: i64 = came().filter(|s| s.to == to).map(needs).sum();
        let left: i64 = left().filter(|s| s.from == to).map(needs).sum();
        assert!(came <= free + left, "host {to} is overfull at {now:?}");
    }
    for l in problem.path(from, to) {
        let on = || runs.iter().filter(|s| problem.path(s.from, s.to).any(|p| p == l));
        assert!(on().map(|s| s.rate.0).sum::<u64>() <= problem.links[l].rate.0, "link {l}");
        assert!(within(problem.links[l].at_once, on().count()), "link {l}");
    }
    assert!(within(problem.at_once, runs.len()), "the fleet");
    for h in [from, to] {
        let here = runs.iter().filter(|s| s.from == h || s.to == h).count();
        assert!(within(problem.hosts[h].at_once, here), "host {h}");
    }
}

#[test]
fn nothing_to_do_takes_no_time() {
    let found = plan(&hosts(&[4, 4]), &Effort::default()).unwrap();
    assert_eq!((found.steps.len(), found.makespan), (0, Duration::ZERO));
}

#[test]
fn room_frees_only_once_a_vm_has_left() {
    let mut p = hosts(&[0, 0, 4]);
    p.moves = vec![mov(0, 1, 4, 10), mov(1, 2, 4, 7)];
    assert_eq!(steps(&p), [(1, 2, 0, 7), (0, 1, 7, 17)]);
}

#[test]
fn a_link_is_used_by_one_after_the_other_where_that_is_quicker() {
    let mut p = hosts(&[0, 8, 8]);
    p.moves = vec![mov(0, 1, 4, 10), mov(0, 2, 4, 10)];
    let found = plan(&p, &Effort::default()).unwrap();
    assert_eq!((found.makespan, found.bound), (secs(20), secs(20)));
    // Two that fill half a link each run side by side.
    p.links[0].rate = Rate(2 * GBIT.0);
    assert_eq!(plan(&p, &Effort::default()).unwrap().makespan, secs(10));
}

#[test]
fn a_circle_is_broken_by_a_third_host() {
    let mut p = hosts(&[0, 0, 4]);
    p.moves = vec![mov(0, 1, 4, 10), mov(1, 0, 4, 5)];
    let Err(Impossible::NoRoom(short)) = plan(&p, &Effort::default()) else {
        panic!("two full hosts cannot exchange")
    };
    assert_eq!(short.len(), 2);
    assert_eq!(short[0], Short { of: 0, host: 1, resource: 0, missing: 4 });
    p.moves[0].via = vec![2];
    p.moves[1].via = vec![2];
    // The quicker one goes round.
    assert_eq!(steps(&p), [(1, 2, 0, 5), (0, 1, 5, 15), (1, 0, 15, 20)]);
}

#[test]
fn tiers_come_one_after_the_other_but_room_comes_first() {
    let mut p = hosts(&[0, 8, 0, 8]);
    p.moves = vec![mov(0, 1, 2, 10), mov(0, 1, 2, 10), mov(0, 1, 2, 10)];
    p.moves[0].tier = 2;
    p.moves[1].tier = 1;
    assert_eq!(steps(&p).iter().map(|s| s.0).collect::<Vec<_>>(), [2, 1, 0]);
    // What the first tier needs leaves before it, whatever its tier.
    p.moves = vec![mov(0, 2, 4, 10), mov(2, 3, 4, 10)];
    p.moves[1].tier = 9;
    assert_eq!(steps(&p).iter().map(|s| s.0).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn dependencies_and_limits_are_kept() {
    let mut p = hosts(&[0, 8, 0, 8]);
    p.moves = vec![mov(0, 1, 2, 10), mov(2, 3, 2, 5)];
    assert_eq!(plan(&p, &Effort::default()).unwrap().makespan, secs(10));
    p.at_once = Some(1);
    assert_eq!(plan(&p, &Effort::default()).unwrap().makespan, secs(15));
    p.at_once = None;
    p.moves[0].after = vec![1];
    assert_eq!(steps(&p), [(1, 3, 0, 5), (0, 1, 5, 15)]);
    p.moves[1].after = vec![0];
    assert_eq!(plan(&p, &Effort::default()), Err(Impossible::Circle(vec![0, 1])));
}

#[test]
fn sites_share_a_link() {
    let mut p = hosts(&[0, 0, 8, 8]);
    p.hosts[2].site = 1;
    p.hosts[3].site = 1;
    p.moves = vec![mov(0, 2, 2, 10), mov(1, 3, 2, 10)];
    assert_eq!(plan(&p, &Effort::default()).unwrap().makespan, secs(10));
    p.links.push(Link { rate: GBIT, at_once: None });
    p.between.insert((0, 1), 8);
    assert_eq!(plan(&p, &Effort::default()).unwrap().makespan, secs(20));
}

#[test]
fn what_cannot_be_is_named() {
    let mut p = hosts(&[0, 8]);
    p.moves = vec![mov(0, 1, 2, 10)];
    p.links[1].rate = Rate(1);
    p.links[0].rate = Rate(1);
    assert_eq!(plan(&p, &Effort::default()), Err(Impossible::TooSlow(0)));
    for (change, word) in [
        ((|p| p.moves[0].to = 0) as fn(&mut Problem), "no two hosts"),
        (|p| p.moves[0].to = 7, "no two hosts"),
        (|p| p.moves[0].needs.clear(), "needs"),
        (|p| p.moves[0].needs[0] = -1, "needs"),
        (|p| p.moves[0].after = vec![4], "waits"),
        (|p| p.hosts[1].free.push(1), "resources"),
        (|p| p.hosts[1].leave = 9, "link"),
    ] {
        let mut p = hosts(&[0, 8]);
        p.moves = vec![mov(0, 1, 2, 10)];
        change(&mut p);
        let text = plan(&p, &Effort::default()).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
}

/// Drains of a large fleet are ordered by the rules alone, without much search.
#[test]
fn four_hundred_moves_of_a_large_fleet() {
    let mut p = hosts(&[0; 1000]);
    for host in &mut p.hosts[20..] {
        host.free = vec![3];
        host.at_once = Some(2);
    }
    p.moves = (0..400).map(|i| mov(i % 20, 20 + (i * 37) % 980, 1, 5)).collect();
    let found = plan(&p, &Effort { schedules: 20, ..Effort::default() }).unwrap();
    replay(&p, &found, |s| s.end - s.start);
    assert_eq!((found.makespan, found.bound), (secs(100), secs(100)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever time the steps really take, nothing is ever overfull; and the same
    /// problem always has the same plan.
    #[test]
    fn no_plan_breaks_a_limit_at_any_moment(
        free in prop::collection::vec(-2i64..6, 3..6),
        moves in prop::collection::vec((0usize..6, 0usize..6, 1i64..4, 1u64..20, 0u32..2), 1..12),
        at_once in prop::option::of(1u32..4),
        times in prop::collection::vec(1u64..50, 30),
        seed in 0u64..1000,
    ) {
        let n = free.len();
        let mut p = hosts(&free);
        p.at_once = at_once;
        p.moves = moves
            .into_iter()
            .filter(|(from, to, ..)| from % n != to % n)
            .map(|(from, to, needs, seconds, tier)| Move {
                tier,
                via: (0..n).collect(),
                ..mov(from % n, to % n, needs, seconds)
            })
            .collect();
        let effort = Effort { schedules: 60, seed, ..Effort::default() };
        let found = plan(&p, &effort);
        prop_assert_eq!(&found, &plan(&p, &effort));
        if let Ok(found) = found {
            prop_assert!(found.makespan >= found.bound);
            replay(&p, &found, |s| s.end - s.start);
            replay(&p, &found, |s| secs(times[s.of]));
            replay(&p, &found, |s| Duration::from_millis(times[29 - s.of]));
        }
    }
}
