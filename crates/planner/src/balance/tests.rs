use proptest::prelude::*;

use super::*;

/// Hosts of 10 units; VMs by host and size. One measure: units used.
fn problem(hosts: usize, vms: &[(usize, i64)]) -> Problem {
    let mut p = Problem { weights: vec![1.0], stranded: 20.0, ..Problem::default() };
    for h in 0..hosts {
        let used: i64 = vms.iter().filter(|(at, _)| *at == h).map(|(_, n)| n).sum();
        p.hosts.push(Host {
            free: vec![10 - used],
            load: vec![0.0],
            capacity: vec![10.0],
            open: true,
        });
    }
    for (host, size) in vms {
        p.vms.push(Vm {
            host: *host,
            needs: vec![*size],
            load: vec![*size as f64],
            movable: true,
            barred: Vec::new(),
        });
    }
    p
}

#[test]
fn even_hosts_are_left_alone() {
    let found = balance(&problem(2, &[(0, 3), (1, 3)]), &Limits::default());
    assert_eq!((found.moves.len(), found.before, found.after), (0, 0.0, 0.0));
    let none = balance(&Problem::default(), &Limits::default());
    assert_eq!((none.moves.len(), none.after), (0, 0.0));
}

#[test]
fn the_most_useful_move_comes_first() {
    let p = problem(3, &[(0, 3), (0, 1), (0, 4), (1, 1)]);
    let found = balance(&p, &Limits { moves: 1, ..Limits::default() });
    assert_eq!(found.moves.len(), 1);
    assert_eq!((found.moves[0].vm, found.moves[0].to), (2, 2));
    assert!(
        (found.before - 0.356).abs() < 0.001 && (found.after - 0.141).abs() < 0.001,
        "{found:?}"
    );
}

#[test]
fn hosts_that_take_none_are_left() {
    let mut p = problem(3, &[(0, 3), (0, 2), (1, 8), (2, 1)]);
    p.hosts[0].open = false;
    let found = evacuate(&p, &Limits::default());
    let moves: Vec<_> = found.moves.iter().map(|m| (m.vm, m.from, m.to)).collect();
    assert_eq!(moves.len(), 2);
    assert!(moves.contains(&(0, 0, 2)) && moves.contains(&(1, 0, 2)), "{moves:?}");
    // Balancing leaves them as well, and nothing ever goes there.
    let found = balance(&p, &Limits::default());
    assert!(found.moves.iter().all(|m| m.to != 0));
    assert!(found.moves.iter().filter(|m| m.from == 0).count() == 2);
    // What may not move, and where nothing fits, stays.
    p.vms[0].movable = false;
    p.vms[1].barred = vec![1, 2];
    assert_eq!(evacuate(&p, &Limits::default()).moves, []);
}

/// Over many small clusters: never worse than step by step, and often better.
#[test]
fn an_exchange_finds_what_single_steps_miss() {
    let mut chance = crate::chance::Chance::new(3);
    let mut better = 0;
    for _ in 0..100 {
        let vms: Vec<(usize, i64)> =
            (0..14).map(|_| (chance.below(4), 1 + chance.below(4) as i64)).collect();
        let mut p = problem(6, &vms);
        // A second measure, the number of VMs, pulls elsewhere than the first.
        p.weights = vec![1.0, 1.0];
        p.vms.iter_mut().for_each(|v| v.load.push(1.0));
        for host in &mut p.hosts {
            host.load.push(0.0);
            host.capacity.push(3.0);
        }
        let limits = Limits { moves: 4, ..Limits::default() };
        let stepwise = balance(&p, &Limits { exchanges: 0, ..limits });
        let exchanged = balance(&p, &limits);
        assert!(exchanged.after <= stepwise.after + 1e-9 && exchanged.moves.len() <= 4);
        better += usize::from(exchanged.after < stepwise.after - 1e-6);
    }
    assert!(better > 5, "{better} of 100");
}

proptest! {
    #[test]
    fn the_score_falls_with_each_move_and_nothing_is_overfull(
        vms in prop::collection::vec((0usize..5, 1i64..4), 0..20),
        closed in prop::option::of(0usize..5),
        moves in 0usize..10,
    ) {
        let mut p = problem(5, &vms);
        if let Some(h) = closed {
            p.hosts[h].open = false;
        }
        let limits = Limits { moves, ..Limits::default() };
        let found = balance(&p, &limits);
        prop_assert_eq!(&found, &balance(&p, &limits));
        prop_assert!(found.moves.len() <= moves);
        prop_assert!(found.after <= found.before + 1e-9);
        let mut at: Vec<usize> = p.vms.iter().map(|v| v.host).collect();
        for m in &found.moves {
            prop_assert_eq!(at[m.vm], m.from);
            prop_assert_eq!(p.vms[m.vm].host, m.from, "each VM moves once");
            prop_assert!(p.hosts[m.to].open);
            at[m.vm] = m.to;
        }
        for (h, host) in p.hosts.iter().enumerate() {
            let change = |vm: usize, v: &Vm| {
                v.needs[0] * (i64::from(v.host == h) - i64::from(at[vm] == h))
            };
            let free: i64 = host.free[0] + p.vms.iter().enumerate().map(|(i, v)| change(i, v)).sum::<i64>();
            prop_assert!(free >= 0 || free >= host.free[0], "host {} is overfull", h);
        }
    }
}
