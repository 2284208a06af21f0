//! Disks and NICs in a network namespace of the test's own, and carriers.

#![allow(clippy::unwrap_used, unsafe_code)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use support::{Host, spec};
use types::{CarrierConfig, CarrierSide, VmSpec};
use vmm::{Hypervisor, Incoming, InstanceRecord};

/// Runs a test on a thread with a network namespace that nobody else is in.
fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: the table of open files stays shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        ip("link add br0 type bridge");
        ip("link set dev br0 up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test()).await })
    });
    thread.join().unwrap().unwrap();
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The devices that are plugged into the bridge.
fn plugged() -> Vec<String> {
    let text = ip("-o link show master br0");
    text.lines().filter_map(|l| Some(l.split(": ").nth(1)?.to_owned())).collect()
}

/// A VM with a disk of each kind and two NICs.
fn furnished(host: &Host, hypervisor: &Hypervisor, machine: &str) -> VmSpec {
    let pool = host.dir.path().join("images");
    fs::create_dir_all(&pool).unwrap();
    for file in ["a.img", "b.img"] {
        fs::write(pool.join(file), [0; 4096]).unwrap();
    }
    let devices = "
        [[disks]]
        pool = 'images'
        file = 'a.img'
        format = 'raw'
        [[disks]]
        pool = 'images'
        file = 'b.img'
        format = 'raw'
        bus = 'ide'
        [[nics]]
        mac = '52:54:00:00:00:01'
        bridge = 'br0'
        [[nics]]
        mac = '52:54:00:00:00:02'
        bridge = 'br0'
    ";
    let text = format!("{}{devices}", toml::to_string(&spec(hypervisor)).unwrap());
    VmSpec {
        machine: hypervisor.resolve_machine(machine).unwrap(),
        ..toml::from_str(&text).unwrap()
    }
}

#[test]
fn devices_are_made_and_removed() {
    isolated(|| async {
        let host = Host::new();
        let hypervisor = host.open().await;
        for machine in ["q35", "pc"] {
            let spec = furnished(&host, &hypervisor, machine);
            let plan = hypervisor.plan(&spec, "s1").unwrap();
            assert_eq!(plugged(), Vec::<String>::new());
            let started = hypervisor.start(&plan, Incoming::No).await.unwrap();
            let names: Vec<_> = plan.taps.iter().map(|tap| tap.name.clone()).collect();
            assert_eq!(plugged(), names);
            started.qmp.cont().await.unwrap();
            let pci = started.qmp.human("info pci").await.unwrap();
            for place in ["device   4, function 0", "device   8, function 0", "function 1"] {
                assert!(pci.contains(place), "{machine}: {place}: {pci}");
            }
            let blocks = started.qmp.human("info block").await.unwrap();
            assert!(blocks.contains("disk0") && blocks.contains("disk1"), "{blocks}");
            hypervisor.end(&started.record).await.unwrap();
            assert_eq!(plugged(), Vec::<String>::new());
            assert_eq!(host.left(), Vec::<PathBuf>::new());
            hypervisor.end(&plan).await.unwrap();
        }
    });
}

#[test]
fn a_failed_start_removes_its_taps() {
    isolated(|| async {
        let host = Host::new();
        let hypervisor = host.open().await;
        let spec = furnished(&host, &hypervisor, "q35");
        let plan = hypervisor.plan(&spec, "s1").unwrap();
        // No bridge any more: the first tap is made, but cannot be plugged in.
        ip("link del dev br0");
        let error = hypervisor.start(&plan, Incoming::No).await.unwrap_err().to_string();
        assert!(error.contains("br0"), "{error}");
        assert!(!ip("-o link show").contains(&plan.taps[0].name));
        assert_eq!(host.left(), Vec::<PathBuf>::new());
        let error = hypervisor.plan(&spec, "s1").unwrap_err().to_string();
        assert!(error.contains("bridge br0"), "{error}");
    });
}

/// Stands in for the carrier: keeps what it was told and stays.
fn stand_in(host: &Host) -> PathBuf {
    let (program, told) = (host.dir.path().join("carrier.sh"), host.dir.path().join("told"));
    let script = format!(
        "#!/bin/sh\nread -r line\necho \"$1 $line\" > {0}.new\nmv {0}.new {0}\nexec sleep 600\n",
        told.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    told
}

fn carrier_config(record: &InstanceRecord) -> CarrierConfig {
    let pem = || Path::new("/etc/godwit/x.pem").to_owned();
    CarrierConfig {
        attempt: serde_json::from_str("\"0197d1f0-0000-7000-8000-000000000001\"").unwrap(),
        secret: "0".repeat(64),
        host: "host-a".parse().unwrap(),
        peer: "host-b".parse().unwrap(),
        ca: pem(),
        cert: pem(),
        key: pem(),
        control: record.carrier_control(),
        qemu: record.migration_socket(),
        side: CarrierSide::Source {
            connect: "10.0.0.2:16000".into(),
            opaque: false,
            recheck: Vec::new(),
            outage: types::Outage::default(),
            force: None,
        },
    }
}

async fn written(path: &Path) -> String {
    for _ in 0..2000 {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} was never written", path.display());
}

fn groups(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

#[tokio::test]
async fn a_carrier_lives_in_the_scope_and_is_found_again() {
    let host = Host::new();
    let told = stand_in(&host);
    let hypervisor = host.open().await;
    let plan = hypervisor.plan(&spec(&hypervisor), "s1").unwrap();
    let record = hypervisor.start(&plan, Incoming::No).await.unwrap().record;
    assert!(!hypervisor.carrier_alive(&record));
    hypervisor.end_carrier(&record).await.unwrap();

    let config = carrier_config(&record);
    hypervisor.start_carrier(&record, &config).await.unwrap();
    assert!(hypervisor.carrier_alive(&record));
    let line = written(&told).await;
    let (subcommand, json) = line.split_once(' ').unwrap();
    assert_eq!(subcommand, "carrier");
    assert_eq!(serde_json::from_str::<CarrierConfig>(json).unwrap(), config);
    let pid_file = record.run_dir.join("carrier.pid");
    let pid = |text: String| text.split(' ').next().unwrap().parse::<u32>().unwrap();
    let first = pid(fs::read_to_string(&pid_file).unwrap());
    assert_eq!(groups(first), groups(record.pid.unwrap()));

    // Another agent, and a pid file that was not written any more.
    let hypervisor = host.open().await;
    assert!(hypervisor.carrier_alive(&plan));
    fs::remove_file(&pid_file).unwrap();
    assert!(hypervisor.carrier_alive(&plan));
    // One at a time.
    hypervisor.start_carrier(&record, &config).await.unwrap();
    let second = pid(fs::read_to_string(&pid_file).unwrap());
    assert_ne!(first, second);
    assert!(hypervisor.carrier_alive(&record));
    hypervisor.end_carrier(&record).await.unwrap();
    assert!(!hypervisor.carrier_alive(&record));
    assert!(hypervisor.is_alive(&record));

    hypervisor.start_carrier(&record, &config).await.unwrap();
    hypervisor.end(&plan).await.unwrap();
    assert!(!hypervisor.carrier_alive(&record));
    for group in &record.groups {
        assert!(!group.exists(), "{}", group.display());
    }
    assert_eq!(host.left(), Vec::<PathBuf>::new());
}
