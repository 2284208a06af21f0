use types::{AttemptId, Bytes, CpuOffer, FirmwareFile, HostOffer, PoolOffer, RunState, VmSpec};

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
        cordoned: false,
        offer: Some(offer(name)),
    }
}

/// A host on a machine of its own that shares its pool with a and b.
fn offer(name: &str) -> HostOffer {
    let pool = PoolOffer {
        direct: true,
        nonces: vec![format!("{name}-new"), format!("{name}-old")],
        seen: ["a", "b", "c", "d"].map(|h| (h.parse().unwrap(), format!("{h}-old"))).into(),
    };
    let file = |bytes| FirmwareFile { bytes, digest: String::new() };
    HostOffer {
        boot_id: format!("boot-{name}"),
        machines: vec!["pc-q35-7.2".into(), "pc-q35-6.2".into()],
        cpu: CpuOffer {
            vendor: "AuthenticAMD".into(),
            features: ["avx", "sse3", "cx16", "lm", "check"].map(str::to_owned).into(),
            models: vec!["qemu64".into(), "Haswell".into()],
        },
        firmware: [("bios-256k.bin".into(), file(262_144))].into(),
        mtu: [("br0".parse().unwrap(), 1500)].into(),
        pools: [("shared".parse().unwrap(), pool)].into(),
        memory_available: Some(Bytes(90 * GIB)),
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
    assert_eq!(problem.code, Code::HugepagesMissing);
    assert!(problem.detail.contains("huge pages") && problem.remedy.is_some(), "{problem}");
    let reserved = Host { free: Bytes(0), free_huge: Bytes(2 * GIB), ..plain.clone() };
    huge.fits(&reserved).unwrap();
    assert_eq!(demand().fits(&reserved).unwrap_err().code, Code::NotEnoughMemory);

    let uefi = Demand { uefi: true, ..demand() };
    let with = |digest: &str, name| Host { uefi: Some(digest.into()), ..host(name, 8) };
    assert_eq!(uefi.fits(&plain).unwrap_err().code, Code::FirmwareDiffers);
    let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
    for (there, fits) in [("1", true), ("2", false)] {
        let wanted = Move {
            demand: &uefi,
            from: Some(&from),
            state: Some(RunState::Running),
            attempt: None,
            clearing: &[],
            blockers: &[],
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
    blockers: Vec<String>,
}

impl Setting {
    /// What host b offers.
    fn there(&mut self) -> &mut HostOffer {
        self.hosts[1].offer.as_mut().unwrap()
    }

    fn pool(&mut self, host: usize) -> &mut PoolOffer {
        let offer = self.hosts[host].offer.as_mut().unwrap();
        offer.pools.get_mut(&"shared".parse().unwrap()).unwrap()
    }

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
            blockers: Vec::new(),
        }
    }

    fn wanted(&self) -> Move<'_> {
        Move {
            demand: &self.demand,
            from: self.from.as_ref(),
            state: self.state,
            attempt: self.attempt,
            clearing: &self.clearing,
            blockers: &self.blockers,
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
        ("bridge", |s| s.hosts[1].bridges.clear(), Some(Code::BridgeMissing)),
        ("bridge gone", |s| s.there().mtu.clear(), Some(Code::BridgeMissing)),
        ("pool", |s| drop(s.hosts[1].pools.pop()), Some(Code::PoolMissing)),
        ("accel", |s| s.hosts[1].accel = "kvm".into(), Some(Code::AccelDiffers)),
        ("machine", |s| s.demand.machine = "pc-q35-8.0".into(), Some(Code::MachineMissing)),
        ("older QEMU", |s| s.hosts[1].qemu = "6.9.9".into(), Some(Code::MachineMissing)),
        ("machine gone", |s| drop(s.there().machines.remove(0)), Some(Code::MachineMissing)),
        ("cordoned", |s| s.hosts[1].cordoned = true, Some(Code::HostCordoned)),
        ("source cordoned", |s| s.hosts[0].cordoned = true, None),
        ("kernel", |s| s.there().memory_available = Some(Bytes(1)), Some(Code::NotEnoughMemory)),
        ("firmware", |s| s.there().firmware.clear(), Some(Code::FirmwareDiffers)),
        ("firmware's size", other_firmware, Some(Code::FirmwareDiffers)),
        ("cpu", |s| s.there().cpu.features.retain(|f| f != "cx16"), Some(Code::CpuFeatureMissing)),
        // The VM has never seen it.
        ("cpu, unseen", |s| s.there().cpu.features.retain(|f| f != "avx"), None),
        ("cpu, host's own", host_cpu, Some(Code::CpuFeatureMissing)),
        ("cpu, unknown model", |s| s.demand.cpu_model = "Z80".into(), None),
        ("cpu, model missing", model_missing, Some(Code::CpuFeatureMissing)),
        ("cpu, not told", |s| s.there().cpu = CpuOffer::default(), None),
        ("copied pool", |s| s.pool(1).seen.clear(), Some(Code::DiskDiffers)),
        ("copied pool, unseen here", |s| s.pool(0).seen.clear(), Some(Code::DiskDiffers)),
        ("pool unwritable there", |s| s.pool(1).nonces.clear(), Some(Code::DiskDiffers)),
        ("stale pool", |s| drop(s.pool(0).nonces.pop()), Some(Code::DiskDiffers)),
        ("pool unwritable", |s| s.pool(0).nonces.clear(), Some(Code::DiskDiffers)),
        ("cache there", |s| s.pool(1).direct = false, Some(Code::DiskNotDirect)),
        ("cache here", |s| s.pool(0).direct = false, Some(Code::DiskNotDirect)),
        ("cache, one machine", one_machine, None),
        ("mtu", |s| s.there().mtu = mtu(1400), Some(Code::MtuTooSmall)),
        ("more mtu", |s| s.there().mtu = mtu(9000), None),
        ("device", |s| s.blockers = vec!["nvme".into()], Some(Code::DeviceNotMigratable)),
        ("older agent there", |s| s.hosts[1].offer = None, None),
        ("older agent here", |s| s.hosts[0].offer = None, None),
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

fn mtu(bytes: u32) -> std::collections::BTreeMap<types::PoolName, u32> {
    [("br0".parse().unwrap(), bytes)].into()
}

fn other_firmware(setting: &mut Setting) {
    let file = FirmwareFile { bytes: 131_072, digest: String::new() };
    setting.there().firmware = [("bios-256k.bin".into(), file)].into();
}

fn host_cpu(setting: &mut Setting) {
    setting.demand.cpu_model = "host".into();
    setting.there().cpu.features.push("avx2".into());
}

fn model_missing(setting: &mut Setting) {
    setting.demand.cpu_model = "Haswell".into();
    setting.there().cpu.models.retain(|m| m != "Haswell");
}

fn one_machine(setting: &mut Setting) {
    setting.pool(1).direct = false;
    setting.there().boot_id = "boot-a".into();
}

#[test]
fn a_survey_tells_everything_of_every_host() {
    let mut setting = Setting::good();
    setting.hosts.extend([host("d", 1), host("c", 9)]);
    setting.there().mtu = mtu(1400);
    setting.hosts[1].cordoned = true;
    setting.hosts[1].free = Bytes(0);
    let seen = survey(&setting.wanted(), &setting.hosts);
    let codes = |problems: &[Problem]| problems.iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(seen.vm, []);
    let told: Vec<_> = seen.hosts.iter().map(|(id, all)| (id.as_str(), codes(all))).collect();
    let b = vec![Code::HostCordoned, Code::NotEnoughMemory, Code::MtuTooSmall];
    assert_eq!(told, [("b", b), ("c", vec![]), ("d", vec![Code::NotEnoughMemory])]);
    setting.attempt = Some(id());
    setting.blockers = vec!["nvme".into()];
    let seen = survey(&setting.wanted(), &setting.hosts);
    assert_eq!(codes(&seen.vm), [Code::MigrationUnderWay, Code::DeviceNotMigratable]);
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
        ("cordoned", |s| s.hosts[3].cordoned = true, Ok("c")),
        ("device", |s| s.blockers = vec!["nvme".into()], Err(Code::DeviceNotMigratable)),
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
