//! A store that is restored from a backup looks before it acts; and what a person
//! says where nobody else can know.
#![allow(clippy::unwrap_used)]

mod rig;

use api::body::{Backup, ControllerView, HistoryEvent, VmFacts, VmView};
use rig::{Rig, facts};
use serde_json::{Value, json};
use types::{Code, Epoch, Incarnation, Ownership, RunState, VmId, VmSpec};

fn told(owner: &str, epoch: u64) -> Ownership {
    Ownership {
        owner: owner.parse().unwrap(),
        epoch: Epoch(epoch),
        incarnation: Incarnation(1),
        attempt: None,
        settled: true,
    }
}

fn running(vm: VmId, owner: &str, epoch: u64) -> VmFacts {
    VmFacts { ownership: Some(told(owner, epoch)), ..facts(vm, RunState::Running, 1) }
}

async fn view(rig: &Rig, name: &str) -> VmView {
    rig.admin("GET", &format!("/v1/vms/{name}"), Value::Null).await
}

async fn status(rig: &Rig) -> ControllerView {
    rig.admin("GET", "/v1/controller", Value::Null).await
}

#[tokio::test]
async fn what_changed_since_the_backup_is_found_and_nothing_is_started_twice() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    rig.heard("host-b", &[]).await;
    let stays = rig.started("stays", "host-a").await;
    let moved = rig.started("moved", "host-a").await;
    rig.started("stopped", "host-a").await;
    let idle: VmView = rig.admin("POST", "/v1/vms", rig::spec("idle")).await;
    let idle = idle.spec.uuid.unwrap();
    let backup: Backup = rig.admin("GET", "/v1/controller/backup", Value::Null).await;

    // Since then: one moved, one was stopped, one was started, one made. All is lost.
    let rig = rig.restored(&backup).await;
    let seen = status(&rig).await;
    assert!(seen.incarnation > Incarnation(1) && seen.restored.is_some());
    assert_eq!(seen.awaited.len(), 2, "{seen:?}");
    assert_eq!(seen.in_doubt.len(), 3, "{seen:?}");
    for path in ["stays/stop", "moved/stop", "idle/start"] {
        let path = format!("/v1/vms/{path}");
        assert_eq!(rig.refused("POST", &path, Value::Null).await, Code::InDoubt, "{path}");
    }

    let reply = rig.heard("host-a", &[running(stays, "host-a", 1)]).await;
    let names: Vec<_> = reply.vms.iter().map(|vm| vm.spec.name.to_string()).collect();
    assert_eq!(names, ["stays"], "host-a is told only of what it has");
    assert_eq!(reply.vms[0].ownership.incarnation, seen.incarnation);

    let made: VmSpec = {
        let mut spec = rig::spec("made");
        spec["uuid"] = json!("0190a000-0000-7000-8000-0000000000aa");
        serde_json::from_value(spec).unwrap()
    };
    let made_id = made.uuid.unwrap();
    let found = [
        running(moved, "host-b", 2),
        running(idle, "host-b", 1),
        VmFacts { spec: Some(made), ..running(made_id, "host-b", 1) },
    ];
    let reply = rig.heard("host-b", &found).await;
    assert_eq!(reply.vms.len(), 3);
    assert!(reply.elsewhere.is_empty());
    for (name, owner, desired) in [
        ("stays", "host-a", RunState::Running),
        ("moved", "host-b", RunState::Running),
        ("idle", "host-b", RunState::Running),
        ("made", "host-b", RunState::Running),
        ("stopped", "host-a", RunState::Stopped),
    ] {
        let view = view(&rig, name).await;
        let own = view.ownership.unwrap();
        assert_eq!((own.owner.as_str(), view.desired), (owner, desired), "{name}");
        assert_eq!(own.incarnation, seen.incarnation, "{name}");
    }
    let seen = status(&rig).await;
    assert!(seen.awaited.is_empty() && seen.in_doubt.is_empty(), "{seen:?}");
    // No host is told to start what the backup says should run.
    let reply = rig.heard("host-a", &[running(stays, "host-a", 1)]).await;
    assert!(reply.vms.iter().all(|vm| vm.spec.name.as_str() != "moved"));
    let told: Vec<HistoryEvent> = rig.admin("GET", "/v1/history", Value::Null).await;
    let events = |word: &str| told.iter().filter(|e| e.event == word).count();
    assert_eq!(
        (events("restore-confirmed"), events("restore-found"), events("restore-missing")),
        (1, 3, 1),
        "{told:?}"
    );
    // And it is an ordinary fleet again.
    rig.admin::<VmView>("POST", "/v1/vms/moved/stop", Value::Null).await;
}

#[tokio::test]
async fn a_copy_of_a_former_owner_takes_nothing_over() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    rig.heard("host-b", &[]).await;
    let vm = rig.started("web01", "host-a").await;
    let backup: Backup = rig.admin("GET", "/v1/controller/backup", Value::Null).await;
    let rig = rig.restored(&backup).await;
    // host-a was told that host-b owns it, and still has a stopped copy.
    let stale = VmFacts { ownership: Some(told("host-b", 2)), ..facts(vm, RunState::Paused, 1) };
    let reply = rig.heard("host-a", std::slice::from_ref(&stale)).await;
    assert!(reply.vms.is_empty() && reply.elsewhere.is_empty());
    // In the middle of a migration nothing is decided either.
    let moving = VmFacts { moving: true, ..running(vm, "host-a", 1) };
    assert!(rig.heard("host-a", &[moving]).await.vms.is_empty());
    assert_eq!(status(&rig).await.in_doubt.len(), 1);
    let reply = rig.heard("host-b", &[running(vm, "host-b", 2)]).await;
    assert_eq!(reply.vms.len(), 1);
    // host-b runs it and has been told so: the copy on host-a may go.
    rig.heard("host-b", &[running(vm, "host-b", 2)]).await;
    let reply = rig.heard("host-a", &[stale]).await;
    assert_eq!(reply.elsewhere.len(), 1);
    assert!(reply.elsewhere[0].there && reply.vms.is_empty());
}

#[tokio::test]
async fn a_person_says_which_host_has_it() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    rig.heard("host-b", &[]).await;
    let vm = rig.started("web01", "host-a").await;
    let path = "/v1/vms/web01/resolve";
    assert_eq!(rig.refused("POST", path, json!({ "owner": "host-a" })).await, Code::NotInDoubt);
    let backup: Backup = rig.admin("GET", "/v1/controller/backup", Value::Null).await;
    let rig = rig.restored(&backup).await;
    // host-b has it and was told nothing that would decide; host-a is not heard.
    let here = VmFacts { moving: true, ..running(vm, "host-b", 7) };
    rig.heard("host-b", &[here]).await;
    let ask = json!({ "owner": "host-b" });
    assert_eq!(rig.refused("POST", path, ask).await, Code::StatementNeeded);
    let wrong = json!({ "owner": "host-b", "statement": "host-b is off" });
    assert_eq!(rig.refused("POST", path, wrong).await, Code::StatementNeeded);
    let absent = json!({ "owner": "host-c", "statement": "host-a is off" });
    assert_eq!(rig.refused("POST", path, absent).await, Code::VmNotRunning);
    let right = json!({ "owner": "host-b", "statement": "host-a is off" });
    let view: VmView = rig.admin("POST", path, right).await;
    let own = view.ownership.unwrap();
    assert_eq!((own.owner.as_str(), own.epoch), ("host-b", Epoch(8)));
    assert_eq!(view.desired, RunState::Running);
    let told: Vec<HistoryEvent> = rig.admin("GET", "/v1/history?vm=web01", Value::Null).await;
    let last = told.last().unwrap();
    assert_eq!((last.actor.as_str(), last.event.as_str()), ("admin", "resolved"));
    assert!(last.detail.as_deref().unwrap().contains("host-a is off"));
}

#[tokio::test]
async fn a_dead_hosts_vm_starts_elsewhere_upon_a_statement() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let vm = rig.started("web01", "host-a").await;
    let path = "/v1/vms/web01/start";
    rig.heard("host-b", &[]).await;
    let ask = json!({ "on": "host-b", "host_is_dead": true, "statement": "host-a is off" });
    assert_eq!(rig.refused("POST", path, ask.clone()).await, Code::HostUp);
    // A controller that restarts has not heard it yet.
    let rig = rig.restarted().await;
    rig.heard("host-b", &[]).await;
    let silent = json!({ "on": "host-b", "host_is_dead": true });
    assert_eq!(rig.refused("POST", path, silent).await, Code::StatementNeeded);
    let view: VmView = rig.admin("POST", path, ask).await;
    let own = view.ownership.unwrap();
    assert_eq!((own.owner.as_str(), own.epoch), ("host-b", Epoch(2)));
    let reply = rig.heard("host-b", &[]).await;
    assert_eq!((reply.vms.len(), reply.vms[0].start_generation), (1, 2));
    // The dead come back: it is not theirs, and stops at once.
    let reply = rig.heard("host-a", &[running(vm, "host-a", 1)]).await;
    assert!(reply.vms.is_empty());
    assert_eq!(reply.elsewhere.len(), 1);
    assert!(!reply.elsewhere[0].there, "host-b has not said that it runs there");
}
