//! A real QEMU without disks: started, found again, ended, and nothing left of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use support::{Host, spec};
use types::{Bytes, VmSpec};
use vmm::{Accel, HostConfig, Hypervisor, Incoming, VmmError};

async fn soon(what: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap();
}

#[tokio::test]
async fn started_adopted_ended() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let facts = hypervisor.facts();
    assert_eq!(facts.accel, Accel::Tcg);
    assert!(facts.version.split('.').count() == 3, "{}", facts.version);
    let plan = hypervisor.plan(&spec(&hypervisor), "s1").unwrap();
    assert_eq!(host.left(), Vec::<PathBuf>::new(), "a plan makes nothing");

    let started = hypervisor.start(&plan, Incoming::No).await.unwrap();
    let record = started.record.clone();
    assert_eq!(started.qmp.status().await.unwrap().status, "prelaunch");
    started.qmp.cont().await.unwrap();
    assert_eq!(started.qmp.status().await.unwrap().status, "running");
    let blocks = started.qmp.human("info ramblock").await.unwrap();
    let ours = &record.blocks()[0];
    assert!(blocks.contains(&format!(" {} ", ours.block)), "{blocks}");
    assert_eq!(std::fs::metadata(&ours.file).unwrap().len(), ours.length);
    assert_eq!(hypervisor.facts().memory_used, Bytes::mib(64));
    for path in [&record.run_dir, &record.log_dir] {
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o700);
    }
    // In a session of its own, which is what outlives us.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", record.pid.unwrap())).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, record.pid.unwrap().to_string());
    // The only connection there can be is shared, not waited for.
    let twice = hypervisor.adopt(&record).await.unwrap().unwrap();
    assert_eq!(twice.qmp.status().await.unwrap().status, "running");
    drop((started, twice));

    // Another agent knows the plan only.
    drop(hypervisor);
    let hypervisor = host.open().await;
    assert!(hypervisor.is_alive(&plan));
    let error = hypervisor.start(&plan, Incoming::No).await.unwrap_err().to_string();
    assert!(error.contains("runs already"), "{error}");
    assert!(hypervisor.is_alive(&plan), "a second start ends nothing");
    assert!(hypervisor.leftovers(std::slice::from_ref(&plan)).unwrap().is_empty());
    assert_eq!(hypervisor.leftovers(&[]).unwrap().len(), 2);
    let mut adopted = hypervisor.adopt(&plan).await.unwrap().unwrap();
    assert_eq!(adopted.record, record);
    adopted.qmp.stop().await.unwrap();
    assert_eq!(adopted.events.next().await.unwrap().name(), "STOP");
    assert!(adopted.take_events().is_some());

    let exit = hypervisor.wait_exit(&record);
    hypervisor.end(&plan).await.unwrap();
    soon(exit).await;
    soon(hypervisor.wait_exit(&record)).await;
    assert!(!hypervisor.is_alive(&record));
    assert!(hypervisor.adopt(&record).await.unwrap().is_none());
    assert_eq!(adopted.events.next().await, None);
    assert_eq!(host.left(), Vec::<PathBuf>::new());
    assert!(record.serial_log().exists());
    hypervisor.end(&record).await.unwrap();
}

#[tokio::test]
async fn a_failed_start_tells_why_and_leaves_nothing() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let good = spec(&hypervisor);
    let bad = VmSpec { cpu_model: "abacus".into(), ..good.clone() };
    let plan = hypervisor.plan(&bad, "s1").unwrap();
    let error = hypervisor.start(&plan, Incoming::No).await.unwrap_err();
    assert!(matches!(&error, VmmError::Start { .. }), "{error}");
    assert!(error.to_string().contains("abacus"), "{error}");
    assert_eq!(host.left(), Vec::<PathBuf>::new());

    let large = VmSpec { memory: Bytes::mib(128), ..good };
    let plan = hypervisor.plan(&large, "s1").unwrap();
    let error = hypervisor.start(&plan, Incoming::Yes).await.unwrap_err();
    assert!(error.to_string().starts_with("not enough memory"), "{error}");
    assert_eq!(host.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_the_host_lacks_is_said_in_the_plan() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let good = spec(&hypervisor);
    let refused = |text: &str, part: &str| {
        let table = format!("{}{text}", toml::to_string(&good).unwrap());
        let spec: VmSpec = toml::from_str(&table).unwrap();
        let error = hypervisor.plan(&spec, "s1").unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    let nic = "[[nics]]\nmac = '52:54:00:00:00:01'\nbridge = 'nowhere0'";
    refused(nic, "bridge nowhere0");
    refused("[boot.kernel]\npool = 'images'\nfile = 'linux'", "pool images");
    std::fs::create_dir(host.dir.path().join("images")).unwrap();
    refused("[boot.kernel]\npool = 'images'\nfile = 'linux'", "file linux");
    let alias = VmSpec { machine: "q35".into(), ..good.clone() };
    assert!(hypervisor.plan(&alias, "s1").unwrap_err().to_string().contains("versioned"));
    assert!(hypervisor.plan(&good, "../x").is_err());
    assert!(hypervisor.plan(&VmSpec { uuid: None, ..good.clone() }, "s1").is_err());
    assert_eq!(host.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_arriving_one_waits_for_its_stream() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let plan = hypervisor.plan(&spec(&hypervisor), "d0123456789abcdef").unwrap();
    let started = hypervisor.start(&plan, Incoming::Yes).await.unwrap();
    assert_eq!(started.qmp.status().await.unwrap().status, "inmigrate");
    let uri = format!("unix:{}", plan.migration_socket().display());
    started.qmp.migrate_incoming(&uri).await.unwrap();
    assert!(plan.migration_socket().exists());
    hypervisor.end(&started.record).await.unwrap();
    assert_eq!(host.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_accelerator_that_was_found_runs_guests() {
    let host = Host::new();
    let config = HostConfig { accel: None, ..host.config() };
    let hypervisor = Hypervisor::open(config).await.unwrap();
    let plan = hypervisor.plan(&spec(&hypervisor), "s1").unwrap();
    let started = hypervisor.start(&plan, Incoming::No).await.unwrap();
    started.qmp.cont().await.unwrap();
    let kvm = started.qmp.human("info kvm").await.unwrap();
    assert_eq!(kvm.contains("enabled"), hypervisor.facts().accel == Accel::Kvm, "{kvm}");
    assert_eq!(started.qmp.status().await.unwrap().status, "running");
    hypervisor.end(&started.record).await.unwrap();
    // What was found out stays, for the next agent of this boot.
    assert_eq!(host.left(), [host.config().run_dir.join("accel")]);
}

/// QEMU ends by itself: seen by whoever waits, and what is left can be removed.
#[tokio::test]
async fn a_qemu_that_ends_by_itself_is_seen() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let plan = hypervisor.plan(&spec(&hypervisor), "s1").unwrap();
    let started = hypervisor.start(&plan, Incoming::No).await.unwrap();
    let exit = hypervisor.wait_exit(&started.record);
    started.qmp.quit().await.unwrap();
    soon(exit).await;
    assert!(!hypervisor.is_alive(&started.record));
    assert!(hypervisor.adopt(&plan).await.unwrap().is_none());
    hypervisor.end(&plan).await.unwrap();
    assert_eq!(host.left(), Vec::<PathBuf>::new());
}
