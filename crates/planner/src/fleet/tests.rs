use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{Change, Fleet, FleetHost, FleetVm, Obstacle, Policy, Rule, RuleKind, VmName};

use super::*;
use crate::chance::Chance;
use crate::reassign::Alone;

const OPTIONS: Options = Options { seed: 5, moves: 60_000, workers: 2 };

fn host(name: &str, memory: u64) -> FleetHost {
    FleetHost {
        name: name.parse().unwrap(),
        site: None,
        domain: None,
        capacity: [("memory".to_owned(), memory)].into(),
        cordoned: false,
        cpu_features: vec!["avx2".to_owned()],
        link: None,
    }
}

fn vm(name: &str, host: Option<&str>, memory: u64) -> FleetVm {
    FleetVm {
        name: name.parse().unwrap(),
        host: host.map(|h| h.parse().unwrap()),
        home: None,
        tier: "secondary".parse().unwrap(),
        demand: [("memory".to_owned(), memory)].into(),
        reserved: BTreeMap::new(),
        history: BTreeMap::new(),
        cpu_features: Vec::new(),
        pinned: Vec::new(),
        barred: BTreeMap::new(),
        dirty_rate: None,
    }
}

fn names(list: &[&str]) -> Vec<VmName> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

fn drain(fleet: &Fleet, host: &str) -> FleetPlan {
    let goal = Goal::Drain(vec![host.parse().unwrap()]);
    plan(fleet, &goal, &OPTIONS, &Alone).unwrap()
}

/// The fleet after its plan.
fn after(fleet: &Fleet, plan: &FleetPlan) -> Fleet {
    let mut fleet = fleet.clone();
    for planned in &plan.moves {
        let vm = fleet.vms.iter_mut().find(|v| v.name == planned.vm).unwrap();
        assert_eq!(vm.host, planned.from);
        vm.host = Some(planned.to.clone());
    }
    fleet
}

/// Makes a change, as a person would.
fn change(fleet: &mut Fleet, change: &Change) {
    let host_of = |fleet: &mut Fleet, name: &HostId| {
        fleet.hosts.iter().position(|h| h.name == *name).unwrap()
    };
    let vm_of =
        |fleet: &mut Fleet, name: &VmName| fleet.vms.iter().position(|v| v.name == *name).unwrap();
    match change {
        Change::Uncordon { host } => {
            let host = host_of(fleet, host);
            fleet.hosts[host].cordoned = false;
        }
        Change::Free { host, resource, amount } => {
            let host = host_of(fleet, host);
            *fleet.hosts[host].capacity.get_mut(resource).unwrap() += amount;
        }
        Change::Remedy { vm, host, .. } => {
            let vm = vm_of(fleet, vm);
            fleet.vms[vm].barred.remove(host);
        }
        Change::Pin { vm, host } => {
            let vm = vm_of(fleet, vm);
            fleet.vms[vm].pinned.push(host.clone());
        }
        Change::Except { vm, rule } => {
            let rule = fleet.rules.iter_mut().find(|r| r.name == *rule).unwrap();
            rule.vms.retain(|v| v != vm);
        }
        Change::Survive { failures } => fleet.policy.survive_host_failures = *failures,
        Change::DropFeatures { vm, features } => {
            let vm = vm_of(fleet, vm);
            fleet.vms[vm].cpu_features.retain(|f| !features.contains(f));
        }
    }
}

#[test]
fn a_host_that_cannot_take_a_vm_is_left_out_and_the_reason_told() {
    let why = |remedy: Option<&str>| {
        let problem = types::Problem::new(types::Code::BridgeMissing, "it lacks bridge br1");
        types::Problem { remedy: remedy.map(str::to_owned), ..problem }
    };
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 40)],
        vms: vec![vm("1", Some("a"), 30), vm("2", Some("a"), 50)],
        ..Fleet::default()
    };
    fleet.vms[0].barred.insert("b".parse().unwrap(), why(None));
    let plan = drain(&fleet, "a");
    let to: Vec<_> = plan.moves.iter().map(|m| (m.vm.as_str(), m.to.as_str())).collect();
    assert!(to.contains(&("1", "c")) && to.contains(&("2", "b")), "{to:?}");
    fleet.vms[1].barred.insert("b".parse().unwrap(), why(Some("make the bridge")));
    let plan = drain(&fleet, "a");
    let [blocked] = &plan.blocked[..] else { panic!("{:?}", plan.blocked) };
    assert!(blocked.refusals.iter().any(|r| matches!(
        &r.obstacles[..], [Obstacle::Barred { code, .. }] if code == "bridge-missing")));
    for wanted in &blocked.unblock {
        change(&mut fleet, wanted);
    }
    assert!(drain(&fleet, "a").blocked.is_empty());
}

#[test]
fn a_drained_host_is_empty_and_nobody_else_moves() {
    let fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 100)],
        vms: vec![vm("1", Some("a"), 30), vm("2", Some("a"), 30), vm("3", Some("b"), 60)],
        ..Fleet::default()
    };
    let plan = drain(&fleet, "a");
    assert!(plan.blocked.is_empty());
    let moved: Vec<_> = plan.moves.iter().map(|m| m.vm.as_str()).collect();
    assert_eq!(moved.len(), 2);
    assert!(!moved.contains(&"3"));
    assert!(plan.moves.iter().all(|m| m.choices >= 1 && m.seconds > 0.0));
}

#[test]
fn room_that_others_free_is_used_in_an_order() {
    // b must take 1, but only once 3 has gone from there to c.
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 50)],
        vms: vec![vm("1", Some("a"), 80), vm("3", Some("b"), 40)],
        ..Fleet::default()
    };
    fleet.vms[0].pinned = ["a", "b"].map(|h| h.parse().unwrap()).to_vec();
    let plan = drain(&fleet, "a");
    let order: Vec<_> = plan.moves.iter().map(|m| (m.vm.as_str(), m.wave)).collect();
    assert_eq!(order, [("3", 0), ("1", 1)]);
    assert!(plan.moves[1].start_seconds >= plan.moves[0].seconds);
}

#[test]
fn every_obstacle_is_named_and_the_smallest_change_is_found() {
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 100), host("d", 100)],
        vms: vec![vm("1", Some("a"), 50), vm("2", Some("b"), 60), vm("3", Some("d"), 10)],
        rules: vec![Rule { name: "r".into(), kind: RuleKind::Apart, vms: names(&["1", "3"]) }],
        policy: Policy::default(),
    };
    fleet.vms[0].cpu_features = vec!["avx2".into()];
    fleet.vms[1].pinned = vec!["b".parse().unwrap()];
    fleet.vms[2].pinned = vec!["d".parse().unwrap()];
    fleet.hosts[2].cpu_features.clear();
    fleet.hosts[2].cordoned = true;
    let plan = drain(&fleet, "a");
    let [blocked] = &plan.blocked[..] else { panic!("{:?}", plan.blocked) };
    let obstacles: Vec<_> = blocked.refusals.iter().map(|r| r.obstacles.clone()).collect();
    assert_eq!(
        obstacles,
        [
            vec![Obstacle::Room { resource: "memory".into(), missing: 10 }],
            vec![Obstacle::Cordoned, Obstacle::CpuFeatures { missing: vec!["avx2".into()] }],
            vec![Obstacle::Apart { rule: "r".into() }],
        ]
    );
    let free = Change::Free { host: "b".parse().unwrap(), resource: "memory".into(), amount: 10 };
    assert_eq!(blocked.unblock, std::slice::from_ref(&free));
    assert_eq!(free.to_string(), "free 10 of memory on b");
    change(&mut fleet, &free);
    assert!(drain(&fleet, "a").blocked.is_empty());
}

#[test]
fn what_belongs_together_meets_and_a_balance_is_worth_its_moves() {
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 100)],
        vms: (0..8).map(|i| vm(&i.to_string(), Some("a"), 10)).collect(),
        rules: vec![Rule { name: "t".into(), kind: RuleKind::Together, vms: names(&["0", "1"]) }],
        policy: Policy::default(),
    };
    let plan = super::plan(&fleet, &Goal::Balance, &OPTIONS, &Alone).unwrap();
    assert!(plan.cost_after < plan.cost_before / 2.0, "{plan:?}");
    assert!((2..=6).contains(&plan.moves.len()), "{plan:?}");
    let later = after(&fleet, &plan);
    assert_eq!(later.vms[0].host, later.vms[1].host);
    fleet.policy.second_costs = 1_000_000;
    let dear = super::plan(&fleet, &Goal::Balance, &OPTIONS, &Alone).unwrap();
    assert!(dear.moves.is_empty(), "{dear:?}");
}

#[test]
fn vms_return_home_and_new_ones_get_a_place() {
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100)],
        vms: vec![vm("1", Some("b"), 30), vm("2", None, 30)],
        ..Fleet::default()
    };
    fleet.vms[0].home = Some("a".parse().unwrap());
    let plan = super::plan(&fleet, &Goal::Restore, &OPTIONS, &Alone).unwrap();
    let later = after(&fleet, &plan);
    assert_eq!(later.vms[0].host, fleet.vms[0].home);
    assert!(later.vms[1].host.is_some());
}

#[test]
fn admission_plays_every_failure() {
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 100)],
        vms: (0..6).map(|i| vm(&i.to_string(), Some(["a", "b", "c"][i % 3]), 32)).collect(),
        ..Fleet::default()
    };
    fleet.policy.survive_host_failures = 1;
    let plan = super::plan(&fleet, &Goal::Settle, &OPTIONS, &Alone).unwrap();
    assert_eq!(plan.admission.unwrap().lost, []);
    fleet.vms.push(vm("6", Some("a"), 32));
    let plan = super::plan(&fleet, &Goal::Settle, &OPTIONS, &Alone).unwrap();
    let admission = plan.admission.unwrap();
    assert_eq!((admission.lost.len(), admission.fails_with[0].as_str()), (1, "a"));
    fleet.policy.protected_tiers = Some(1);
    let plan = super::plan(&fleet, &Goal::Settle, &OPTIONS, &Alone).unwrap();
    assert_eq!(plan.admission.unwrap().lost, []);
}

#[test]
fn who_would_take_the_reserve_is_not_let_in() {
    for failures in [1, 2] {
        let hosts = ["a", "b", "c", "d", "e"];
        let mut fleet = Fleet {
            hosts: hosts.map(|h| host(h, 100)).to_vec(),
            vms: (0..5).map(|i| vm(&format!("old-{i}"), Some(hosts[i]), 50)).collect(),
            ..Fleet::default()
        };
        // So that one more small VM is let in, and a large one is not.
        fleet.vms.push(vm("small", None, 10));
        fleet.vms.push(vm("large", None, 51));
        fleet.policy.survive_host_failures = failures;
        let plan = super::plan(&fleet, &Goal::Settle, &OPTIONS, &Alone).unwrap();
        assert_eq!(plan.admission.as_ref().map(|a| a.lost.len()), Some(0), "{plan:?}");
        if failures == 1 {
            assert!(plan.blocked.iter().all(|b| b.vm.as_str() != "small"), "{plan:?}");
        }
        let large = plan.blocked.iter().find(|b| b.vm.as_str() == "large");
        let Some(large) = large else { panic!("{plan:?}") };
        assert!(
            large.refusals.iter().any(|r| r.obstacles.contains(&Obstacle::Reserved { failures })),
            "{large:?}"
        );
    }
}

#[test]
fn two_who_are_kept_apart_never_meet_on_the_way() {
    // 1 goes where 2 is; 2 is slow to leave.
    let mut fleet = Fleet {
        hosts: vec![host("a", 100), host("b", 100), host("c", 100)],
        vms: vec![vm("1", Some("a"), 10), vm("2", Some("b"), 60), vm("3", None, 1)],
        rules: vec![Rule { name: "r".into(), kind: RuleKind::Apart, vms: names(&["1", "2"]) }],
        policy: Policy::default(),
    };
    fleet.vms[0].home = Some("b".parse().unwrap());
    fleet.vms[1].home = Some("c".parse().unwrap());
    let plan = super::plan(&fleet, &Goal::Restore, &OPTIONS, &Alone).unwrap();
    let of = |name: &str| plan.moves.iter().find(|m| m.vm.as_str() == name).unwrap();
    assert!(of("1").start_seconds >= of("2").start_seconds + of("2").seconds, "{plan:?}");
}

#[test]
fn a_rule_on_domains_holds_after_each_move() {
    // 1 leaves the rack that 2 comes to: 2 has to be there first.
    let mut fleet = Fleet {
        hosts: (0..4).map(|h| host(&format!("h{h}"), 100)).collect(),
        vms: vec![vm("1", Some("h0"), 10), vm("2", Some("h1"), 10), vm("3", Some("h1"), 10)],
        rules: vec![Rule {
            name: "r".into(),
            kind: RuleKind::Spread { domains: 2 },
            vms: names(&["1", "2", "3"]),
        }],
        policy: Policy::default(),
    };
    fleet.vms[0].home = Some("h1".parse().unwrap());
    fleet.vms[1].home = Some("h0".parse().unwrap());
    let plan = super::plan(&fleet, &Goal::Restore, &OPTIONS, &Alone).unwrap();
    let of = |name: &str| plan.moves.iter().find(|m| m.vm.as_str() == name).unwrap();
    assert!(of("1").start_seconds >= of("2").start_seconds + of("2").seconds, "{plan:?}");
}

#[test]
fn demands_that_cannot_be_met_are_named_with_the_smallest_set() {
    let pin = |fleet: &mut Fleet, vm: usize, hosts: &[&str]| {
        fleet.vms[vm].pinned = hosts.iter().map(|h| h.parse().unwrap()).collect();
    };
    let fleet = |kind| Fleet {
        hosts: ["a", "b", "c", "d"].map(|h| host(h, 100)).to_vec(),
        vms: (0..4).map(|i| vm(&i.to_string(), None, 5)).collect(),
        rules: vec![Rule { name: "r".into(), kind, vms: names(&["0", "1", "2", "3"]) }],
        policy: Policy::default(),
    };
    let told = |fleet: &Fleet| {
        plan(fleet, &Goal::Settle, &OPTIONS, &Alone).map(|_| ()).map_err(|e| e.detail)
    };
    let mut crowd = fleet(RuleKind::Apart);
    pin(&mut crowd, 0, &["a", "b"]);
    pin(&mut crowd, 1, &["d"]);
    pin(&mut crowd, 2, &["b", "a"]);
    assert_eq!(told(&crowd), Ok(()));
    pin(&mut crowd, 3, &["a", "b"]);
    let what = told(&crowd).unwrap_err();
    assert!(what.ends_with("leave only 2 to 0, 2, 3"), "{what}");

    let mut torn = fleet(RuleKind::Together);
    pin(&mut torn, 0, &["a", "b"]);
    pin(&mut torn, 1, &["b", "c"]);
    assert_eq!(told(&torn), Ok(()));
    pin(&mut torn, 2, &["c", "a"]);
    let what = told(&torn).unwrap_err();
    assert!(what.ends_with("leave none to all of 0, 1, 2"), "{what}");
    pin(&mut torn, 3, &["d"]);
    let what = told(&torn).unwrap_err();
    assert!(what.ends_with("leave none to all of 2, 3"), "{what}");

    let mut narrow = fleet(RuleKind::Spread { domains: 3 });
    (0..4).for_each(|vm| pin(&mut narrow, vm, &["a", "b"]));
    let what = told(&narrow).unwrap_err();
    assert!(what.contains("asks for 3 domains, and pins"), "{what}");
    pin(&mut narrow, 3, &[]);
    assert_eq!(told(&narrow), Ok(()));

    let mut both = fleet(RuleKind::Together);
    both.rules.push(Rule { name: "s".into(), kind: RuleKind::Apart, vms: names(&["1", "3"]) });
    let what = told(&both).unwrap_err();
    assert!(what.contains("rule r wants 1 and 3 on one host, and rule s on two"), "{what}");
    both.rules[1].name = "r".into();
    assert_eq!(told(&both), Err("rule r stands there twice".into()));
}

#[test]
fn contradictions_are_refused_with_the_reason() {
    let fleet = || Fleet {
        hosts: vec![host("a", 100), host("b", 100)],
        vms: vec![vm("1", Some("a"), 30), vm("2", Some("b"), 30), vm("3", None, 5)],
        rules: vec![Rule { name: "r".into(), kind: RuleKind::Apart, vms: names(&["1", "2"]) }],
        policy: Policy::default(),
    };
    type Spoil = fn(&mut Fleet);
    let cases: &[(Spoil, &str)] = &[
        (|f| f.hosts.clear(), "no host"),
        (|f| f.hosts[1].name = "a".parse().unwrap(), "host a stands there twice"),
        (|f| f.vms[1].name = "1".parse().unwrap(), "VM 1 stands there twice"),
        (|f| f.vms[0].host = Some("z".parse().unwrap()), "VM 1 names host z"),
        (|f| f.vms[0].pinned = vec!["z".parse().unwrap()], "VM 1 names host z"),
        (|f| f.rules[0].vms.push("9".parse().unwrap()), "rule r names VM 9"),
        (|f| f.rules[0].vms.push("3".parse().unwrap()), "asks for 3 hosts, and there are 2"),
        (|f| f.rules[0].kind = RuleKind::Spread { domains: 3 }, "asks for 3 domains"),
        (|f| f.vms[0].demand = [("gpu".into(), 1)].into(), "needs gpu, which no host has"),
    ];
    for (spoil, word) in cases {
        let mut fleet = fleet();
        spoil(&mut fleet);
        let told = plan(&fleet, &Goal::Settle, &OPTIONS, &Alone).unwrap_err();
        assert!(told.detail.contains(word), "{}", told.detail);
    }
    let unknown = plan(&fleet(), &Goal::Drain(vec!["z".parse().unwrap()]), &OPTIONS, &Alone);
    assert_eq!(unknown.unwrap_err().code, Code::HostUnknown);
}

/// A fleet by chance.
fn any_fleet(seed: u64) -> Fleet {
    let mut chance = Chance::new(seed);
    let hosts: Vec<FleetHost> = (0..6)
        .map(|h| FleetHost {
            domain: Some(format!("rack-{}", h % 3)),
            site: (chance.below(3) == 0).then(|| format!("site-{}", h % 2)),
            cordoned: chance.below(6) == 0,
            cpu_features: if chance.below(4) == 0 { vec![] } else { vec!["avx2".into()] },
            ..host(&format!("h{h}"), 60 + chance.below(60) as u64)
        })
        .collect();
    let mut free: Vec<u64> = hosts.iter().map(|h| h.capacity["memory"]).collect();
    let mut vms = Vec::new();
    for i in 0..24 {
        let (h, memory) = (chance.below(6), 5 + chance.below(25) as u64);
        let placed = free[h] >= memory;
        free[h] -= if placed { memory } else { 0 };
        let name = format!("h{h}");
        let mut new = vm(&format!("v{i}"), placed.then_some(&name), memory);
        if chance.below(5) == 0 {
            new.cpu_features = vec!["avx2".into()];
        }
        if chance.below(6) == 0 {
            new.pinned = vec![hosts[h].name.clone(), hosts[chance.below(6)].name.clone()];
        }
        vms.push(new);
    }
    let rules = (0..3).map(|r| {
        let kind = [RuleKind::Apart, RuleKind::RatherTogether, RuleKind::RatherApart][r];
        let vms = (0..3).map(|i| vms[chance.below(8) + i * 8].name.clone()).collect();
        Rule { name: format!("r{r}"), kind, vms }
    });
    Fleet { rules: rules.collect(), hosts, vms, policy: Policy::default() }
}

/// The same fleet, written in another order.
fn shuffled(fleet: &Fleet, seed: u64) -> Fleet {
    let (mut fleet, mut chance) = (fleet.clone(), Chance::new(seed));
    chance.shuffle(&mut fleet.hosts);
    chance.shuffle(&mut fleet.vms);
    chance.shuffle(&mut fleet.rules);
    fleet.rules.iter_mut().for_each(|r| chance.shuffle(&mut r.vms));
    fleet.vms.iter_mut().for_each(|vm| chance.shuffle(&mut vm.pinned));
    fleet
}

/// What is broken at any moment of a plan, in which a VM that moves uses what it needs
/// on both hosts and is on both for those who must not meet it.
fn broken_on_the_way(fleet: &Fleet, plan: &FleetPlan) -> Vec<String> {
    let mut broken = Vec::new();
    let moments = plan.moves.iter().map(|m| m.start_seconds);
    for now in moments {
        let mut then = fleet.clone();
        for planned in &plan.moves {
            let (start, end) = (planned.start_seconds, planned.start_seconds + planned.seconds);
            let vm = then.vms.iter().position(|v| v.name == planned.vm).unwrap();
            // Times are sums of whole nanoseconds, told as fractions.
            if end <= now + 1e-9 {
                then.vms[vm].host = Some(planned.to.clone());
            } else if start <= now + 1e-9 {
                let mut twin = then.vms[vm].clone();
                twin.host = Some(planned.to.clone());
                twin.name = format!("{}-arriving", twin.name).parse().unwrap();
                let rules = then.rules.iter_mut().filter(|r| r.vms.contains(&planned.vm));
                rules.for_each(|r| r.vms.push(twin.name.clone()));
                then.vms.push(twin);
            }
        }
        broken.extend(broken_promises(&then));
    }
    broken
}

/// Everything that the fleet promises, counted from the document itself.
fn broken_promises(fleet: &Fleet) -> Vec<String> {
    let mut broken = Vec::new();
    for host in &fleet.hosts {
        let here = fleet.vms.iter().filter(|v| v.host.as_ref() == Some(&host.name));
        let used: u64 = here.clone().map(|v| v.demand["memory"]).sum();
        if used > host.capacity["memory"] {
            broken.push(format!("{} is overfull", host.name));
        }
        for vm in here {
            if vm.cpu_features.iter().any(|f| !host.cpu_features.contains(f)) {
                broken.push(format!("{} lacks features on {}", vm.name, host.name));
            }
            if !vm.pinned.is_empty() && !vm.pinned.contains(&host.name) {
                broken.push(format!("{} is not pinned to {}", vm.name, host.name));
            }
        }
    }
    for rule in fleet.rules.iter().filter(|r| r.kind == RuleKind::Apart) {
        let all = fleet.vms.iter().filter(|v| rule.vms.contains(&v.name));
        let mut hosts: Vec<_> = all.filter_map(|v| v.host.clone()).collect();
        hosts.sort();
        let twice = hosts.windows(2).filter(|pair| pair[0] == pair[1]);
        broken.extend(twice.map(|pair| format!("{} on {}", rule.name, pair[0])));
    }
    broken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No promise is broken that was not broken before: at no moment of the plan, in
    /// whatever way the moves of a wave overlap. The same fleet, in whatever order it is
    /// written, gives the same plan. What is said to unblock unblocks.
    #[test]
    fn plans_hold_what_they_promise(seed: u64, what in 0..3u8) {
        let fleet = any_fleet(seed);
        let goal = match what {
            0 => Goal::Settle,
            1 => Goal::Drain(vec!["h1".parse().unwrap()]),
            _ => Goal::Balance,
        };
        let Ok(plan) = super::plan(&fleet, &goal, &OPTIONS, &Alone) else {
            // Moves that have no order are refused, never half planned.
            return Ok(());
        };
        prop_assert_eq!(&plan, &super::plan(&fleet, &goal, &OPTIONS, &Alone).unwrap());
        let other = shuffled(&fleet, seed);
        prop_assert_eq!(&plan, &super::plan(&other, &goal, &OPTIONS, &Alone).unwrap());
        let before = broken_promises(&fleet);
        for promise in broken_on_the_way(&fleet, &plan) {
            prop_assert!(before.contains(&promise), "{promise}");
        }
        for promise in broken_promises(&after(&fleet, &plan)) {
            prop_assert!(before.contains(&promise), "{promise}");
        }
        for planned in &plan.moves {
            let host = fleet.hosts.iter().find(|h| h.name == planned.to).unwrap();
            prop_assert!(!host.cordoned);
            if let Goal::Drain(drained) = &goal {
                prop_assert!(!drained.contains(&planned.to));
            }
        }
        for blocked in plan.blocked.iter().filter(|b| !b.unblock.is_empty()) {
            // Other blocked VMs would like the same room.
            let mut changed = after(&fleet, &plan);
            let others = |vm: &VmName| plan.blocked.iter().any(|b| b.vm == *vm && *vm != blocked.vm);
            changed.vms.retain(|vm| !others(&vm.name));
            changed.rules.iter_mut().for_each(|r| r.vms.retain(|vm| !others(vm)));
            blocked.unblock.iter().for_each(|c| change(&mut changed, c));
            let again = super::plan(&changed, &goal, &OPTIONS, &Alone);
            let again = again.map(|p| p.blocked).unwrap_or_default();
            prop_assert!(again.iter().all(|b| b.vm != blocked.vm), "{blocked:?}");
        }
    }
}
