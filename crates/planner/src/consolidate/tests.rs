use proptest::prelude::*;

use super::*;

fn hosts(count: usize) -> Vec<Host> {
    let host = Host { capacity: 10.0, cost: 1.0, rounds_on: 9, open: true, ..Host::default() };
    vec![host; count]
}

fn vm(host: usize, load: f64) -> Vm {
    Vm { host, load: Load::new(load, 0.0), weight: load, movable: true, ..Vm::default() }
}

fn moved(hosts: &[Host], vms: &[Vm]) -> Vec<(usize, usize, Reason)> {
    let moves = consolidate(hosts, vms, &Policy::default());
    moves.iter().map(|m| (m.vm, m.to, m.reason)).collect()
}

#[test]
fn an_overloaded_host_is_relieved_with_the_cheapest_move_that_suffices() {
    let vms = [vm(0, 6.0), vm(0, 3.0), vm(0, 2.0), vm(1, 6.0)];
    assert_eq!(moved(&hosts(3), &vms), [(2, 1, Reason::Relieve)]);
    // Nowhere on a host that is on: another is switched on, the thriftiest.
    let mut fleet = hosts(4);
    fleet[3].cost = 0.5;
    let vms = [vm(0, 6.0), vm(0, 5.5), vm(1, 9.0)];
    assert_eq!(moved(&fleet, &vms), [(1, 3, Reason::Relieve)]);
    // A host with one VM cannot be relieved.
    assert_eq!(moved(&hosts(2), &[vm(0, 12.0)]), []);
}

#[test]
fn a_host_is_emptied_wholly_or_not_at_all() {
    let vms = [vm(0, 1.0), vm(0, 2.0), vm(1, 5.0), vm(2, 6.0)];
    assert_eq!(moved(&hosts(3), &vms), [(0, 2, Reason::Empty), (1, 2, Reason::Empty)]);
    assert_eq!(moved(&hosts(2), &[vm(0, 3.0), vm(0, 4.0), vm(1, 5.0)]), []);
    // Not before it has been on for a while, and not if a VM may not move.
    let mut young = hosts(3);
    young.iter_mut().for_each(|h| h.rounds_on = 1);
    assert_eq!(moved(&young, &vms), []);
    let mut pinned = vms.clone();
    pinned.iter_mut().for_each(|v| v.movable = false);
    assert_eq!(moved(&hosts(3), &pinned), []);
}

#[test]
fn what_is_uncertain_needs_a_margin() {
    let mut vms = [vm(0, 4.0), vm(1, 5.0)];
    assert_eq!(moved(&hosts(2), &vms).len(), 1);
    vms[1].load = Load::new(5.0, 2.0);
    assert_eq!(moved(&hosts(2), &vms), []);
}

#[test]
fn resources_that_must_not_run_out_are_kept() {
    let mut fleet = hosts(3);
    let mut vms = [vm(0, 1.0), vm(1, 5.0), vm(2, 2.0)];
    fleet.iter_mut().for_each(|h| h.free = vec![1]);
    fleet[1].free = vec![0];
    vms.iter_mut().for_each(|v| v.needs = vec![1]);
    assert_eq!(moved(&fleet, &vms), [(0, 2, Reason::Empty)]);
    fleet[2].open = false;
    assert_eq!(moved(&fleet, &vms), [(2, 0, Reason::Empty)]);
}

#[test]
fn a_load_is_expected_between_its_last_value_and_its_long_mean() {
    let mut load = Load::default();
    for _ in 0..200 {
        load.observe(4.0);
    }
    assert!((load.expected() - 4.0).abs() < 1e-9 && load.variance() < 1e-9);
    load.observe(8.0);
    assert!(load.expected() > 4.5 && load.expected() < 6.5, "{load:?}");
    assert!(load.variance() > 1.0);
}

proptest! {
    #[test]
    fn rounds_come_to_rest_and_keep_their_margins(
        vms in prop::collection::vec((0usize..6, 1u32..60, 0u32..10), 0..30),
    ) {
        let fleet = hosts(6);
        let mut vms: Vec<Vm> = vms
            .into_iter()
            .map(|(host, load, deviation)| Vm {
                load: Load::new(f64::from(load) / 10.0, f64::from(deviation) / 10.0),
                ..vm(host, 1.0)
            })
            .collect();
        let policy = Policy::default();
        for round in 0..8 {
            let moves = consolidate(&fleet, &vms, &policy);
            prop_assert_eq!(&moves, &consolidate(&fleet, &vms, &policy));
            for m in &moves {
                prop_assert_eq!(vms[m.vm].host, m.from);
                vms[m.vm].host = m.to;
            }
            for m in &moves {
                let here: Vec<&Vm> = vms.iter().filter(|v| v.host == m.to).collect();
                let load: f64 = here.iter().map(|v| v.load.expected()).sum();
                prop_assert!(here.len() == 1 || load <= 10.0 + 1e-9, "host {} has {}", m.to, load);
            }
            prop_assert!(round < 7 || moves.is_empty(), "nothing changes and still {:?} move", moves);
        }
    }
}
