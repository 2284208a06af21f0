use types::{AttemptId, Bytes, RunState, VmSpec};

use super::*;

const GIB: u64 = 1 << 30;

fn host(name: &str, free: u64) -> Host {
    Host {
        id: name.parse().unwrap(),
        up: true,
        free: Bytes(free * GIB),
        free_huge: Bytes(0),
        uefi: None,
        qemu: "7.2.22".into(),
        accel: "tcg".into(),
        bridges: vec!["br0".parse().unwrap()],
        pools: vec!["images".parse().unwrap(), "shared".parse().unwrap()],
    }
}

fn demand() -> Demand {
    let spec = serde_json::json!({
        "name": "web01", "memory": 2 * GIB, "machine": "pc-q35-7.2",
        "boot": { "kernel": { "pool": "images", "file": "k" } },
        "disks": [{ "pool": "shared", "file": "d", "format": "raw" }],
        "nics": [{ "bridge": "br0" }, { "bridge": "br0" }],
    });
    Demand::from(&serde_json::from_value::<VmSpec>(spec).unwrap())
}

#[test]
fn a_demand_names_everything_once() {
    let demand = demand();
    assert_eq!(demand.bridges.len(), 1);
    assert_eq!(demand.pools.len(), 2);
    assert_eq!(demand.memory, Bytes(2 * GIB));
}

#[test]
fn huge_pages_and_firmware_are_asked_for_where_they_are_needed() {
    let plain = host("a", 8);
    let huge = Demand { huge: true, ..demand() };
    let problem = huge.fits(&plain).unwrap_err();
    assert_eq!(problem.code, Code::NotEnoughMemory);
    assert!(problem.detail.contains("huge pages") && problem.remedy.is_some(), "{problem}");
    let reserved = Host { free: Bytes(0), free_huge: Bytes(2 * GIB), ..plain.clone() };
    huge.fits(&reserved).unwrap();
    assert_eq!(demand().fits(&reserved).unwrap_err().code, Code::NotEnoughMemory);

    let uefi = Demand { uefi: true, ..demand() };
    let with = |digest: &str, name| Host { uefi: Some(digest.into()), ..host(name, 8) };
    assert_eq!(uefi.fits(&plain).unwrap_err().code, Code::HostUnsuitable);
    let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
    for (there, fits) in [("1", true), ("2", false)] {
        let wanted = Move {
            demand: &uefi,
            from: Some(&from),
            state: Some(RunState::Running),
            attempt: None,
            clearing: &[],
        };
        let answer = preflight(&wanted, &to, &[with("1", "a"), with(there, "b")]);
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
        assert!(fits || answer.unwrap_err().detail.contains("firmware"));
    }
}

#[test]
fn the_roomiest_host_is_chosen() {
    let down = Host { up: false, ..host("z", 90) };
    let bare = Host { bridges: Vec::new(), ..host("y", 80) };
    let a = host("a", 8);
    let cases: &[(&[Host], Option<&str>, Option<&str>)] = &[
        (&[host("b", 4), host("a", 4), host("c", 3)], None, Some("a")),
        (&[host("b", 4), host("a", 8)], None, Some("a")),
        (&[host("b", 4), host("a", 8)], Some("a"), Some("b")),
        (&[down.clone(), bare.clone(), host("b", 2)], None, Some("b")),
        (&[down, bare, host("b", 1)], None, None),
        (std::slice::from_ref(&a), Some("a"), None),
        (&[], None, None),
    ];
    for (hosts, except, chosen) in cases {
        let except = except.map(|e| e.parse().unwrap());
        let answer = place(&demand(), hosts, except.as_ref());
        match (answer, chosen) {
            (Ok(host), Some(name)) => assert_eq!(host.id.as_str(), *name),
            (Err(problem), None) => {
                assert_eq!(problem.code, Code::NoHost);
                assert!(problem.remedy.is_some());
            }
            (answer, _) => panic!("{answer:?} instead of {chosen:?}"),
        }
    }
}

/// What is spoilt, and the code that must follow.
type Case = (&'static str, fn(&mut Setting), Option<Code>);

struct Setting {
    hosts: Vec<Host>,
    demand: Demand,
    from: Option<HostId>,
    to: HostId,
    state: Option<RunState>,
    attempt: Option<AttemptId>,
    clearing: Vec<(HostId, AttemptId)>,
}

impl Setting {
    /// A VM that runs on a and may go to b.
    fn good() -> Self {
        Self {
            hosts: vec![host("a", 4), host("b", 4)],
            demand: demand(),
            from: Some("a".parse().unwrap()),
            to: "b".parse().unwrap(),
            state: Some(RunState::Running),
            attempt: None,
            clearing: Vec::new(),
        }
    }

    fn wanted(&self) -> Move<'_> {
        Move {
            demand: &self.demand,
            from: self.from.as_ref(),
            state: self.state,
            attempt: self.attempt,
            clearing: &self.clearing,
        }
    }
}

#[test]
fn a_migration_is_refused_for_a_reason() {
    let cases: &[Case] = &[
        ("all well", |_| {}, None),
        ("paused", |s| s.state = Some(RunState::Paused), None),
        ("newer QEMU", |s| s.hosts[1].qemu = "10.0.2".into(), None),
        ("alias", |s| s.demand.machine = "q35".into(), None),
        ("unreadable QEMU", |s| s.hosts[1].qemu = "?".into(), None),
        ("just enough", |s| s.hosts[1].free = Bytes(2 * GIB), None),
        ("same host", |s| s.to = "a".parse().unwrap(), Some(Code::SameHost)),
        ("unknown", |s| s.to = "c".parse().unwrap(), Some(Code::HostUnknown)),
        ("down", |s| s.hosts[1].up = false, Some(Code::HostDown)),
        ("source down", |s| s.hosts[0].up = false, Some(Code::HostDown)),
        ("source unheard", |s| drop(s.hosts.remove(0)), Some(Code::HostDown)),
        ("memory", |s| s.hosts[1].free = Bytes(GIB), Some(Code::NotEnoughMemory)),
        ("bridge", |s| s.hosts[1].bridges.clear(), Some(Code::HostUnsuitable)),
        ("pool", |s| drop(s.hosts[1].pools.pop()), Some(Code::HostUnsuitable)),
        ("accel", |s| s.hosts[1].accel = "kvm".into(), Some(Code::HostUnsuitable)),
        ("machine", |s| s.demand.machine = "pc-q35-8.0".into(), Some(Code::HostUnsuitable)),
        ("older QEMU", |s| s.hosts[1].qemu = "6.9.9".into(), Some(Code::HostUnsuitable)),
        ("stopped", |s| s.state = Some(RunState::Stopped), Some(Code::VmNotRunning)),
        ("unseen", |s| s.state = None, Some(Code::VmNotRunning)),
        ("never started", |s| s.from = None, Some(Code::VmNotRunning)),
        ("under way", |s| s.attempt = Some(id()), Some(Code::MigrationUnderWay)),
        ("clearing", |s| s.clearing = clearing("b"), Some(Code::MigrationUnderWay)),
        ("clearing elsewhere", |s| s.clearing = clearing("c"), None),
    ];
    for (name, spoil, expected) in cases {
        let mut setting = Setting::good();
        spoil(&mut setting);
        let answer = preflight(&setting.wanted(), &setting.to, &setting.hosts);
        assert_eq!(answer.as_ref().err().map(|p| p.code), *expected, "{name}: {answer:?}");
        if let Err(problem) = answer {
            assert!(problem.detail.contains("web01") || problem.remedy.is_some(), "{name}");
            assert!(problem.remedy.is_some(), "{name}");
        }
    }
}

#[test]
fn a_destination_is_one_that_the_preflight_allows() {
    /// What is different, and the answer that must follow.
    type Case = (&'static str, fn(&mut Setting), Result<&'static str, Code>);
    let cases: &[Case] = &[
        ("roomiest", |_| {}, Ok("d")),
        ("other accel", |s| s.hosts[3].accel = "kvm".into(), Ok("c")),
        ("older QEMU", |s| s.hosts[3].qemu = "6.2".into(), Ok("c")),
        ("clearing", |s| s.clearing = clearing("d"), Ok("c")),
        ("down", |s| s.hosts[3].up = false, Ok("c")),
        ("never back to where it is", |s| s.hosts[0].free = Bytes(99 * GIB), Ok("d")),
        ("alone", |s| s.hosts.truncate(1), Err(Code::NoHost)),
        ("no room", |s| s.demand.memory = Bytes(50 * GIB), Err(Code::NoHost)),
        ("stopped", |s| s.state = Some(RunState::Stopped), Err(Code::VmNotRunning)),
        ("unseen", |s| s.state = None, Err(Code::VmNotRunning)),
        ("never started", |s| s.from = None, Err(Code::VmNotRunning)),
        ("source down", |s| s.hosts[0].up = false, Err(Code::HostDown)),
        ("under way", |s| s.attempt = Some(id()), Err(Code::MigrationUnderWay)),
    ];
    for (name, change, expected) in cases {
        let mut setting = Setting::good();
        setting.hosts.extend([host("c", 5), host("d", 6)]);
        change(&mut setting);
        let answer = destination(&setting.wanted(), &setting.hosts);
        if let Ok(host) = answer {
            assert_eq!(preflight(&setting.wanted(), &host.id, &setting.hosts), Ok(()), "{name}");
        }
        let answer = answer.map(|host| host.id.as_str()).map_err(|problem| problem.code);
        assert_eq!(answer, *expected, "{name}");
    }
}

fn id() -> AttemptId {
    "01890000-0000-7000-8000-000000000001".parse().unwrap()
}

fn clearing(host: &str) -> Vec<(HostId, AttemptId)> {
    vec![(host.parse().unwrap(), id())]
}
