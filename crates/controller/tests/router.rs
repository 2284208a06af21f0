//! The HTTP contract, end to end upon a store in a file.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::{Duration, Instant};

use api::body::{AttemptIntent, AttemptView, Button, Ended, HistoryEvent, HostView, VmView};
use rig::{Rig, code, host};
use serde_json::{Value, json};
use types::{AttemptPhase, Code, Outcome, Ownership, RunState};

#[tokio::test]
async fn a_vm_lives_from_creation_to_removal() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let made: VmView = rig.admin("POST", "/v1/vms", rig::spec("web01")).await;
    assert_eq!((made.desired, made.state, made.ownership), (RunState::Stopped, None, None));
    let id = made.spec.uuid.unwrap();
    let mac = made.spec.nics[0].mac.unwrap().to_string();
    assert!(mac.starts_with("52:54:00:"), "{mac}");
    assert_eq!(rig.refused("POST", "/v1/vms", rig::spec("web01")).await, Code::VmExists);
    for (body, expected) in [
        (json!({ "name": "x", "memory": 3 }), Code::InvalidSpec),
        (json!({ "name": "a/b", "memory": 2 << 20 }), Code::InvalidRequest),
        (json!({ "name": id.to_string(), "memory": 2 << 20 }), Code::InvalidSpec),
    ] {
        assert_eq!(rig.refused("POST", "/v1/vms", body).await, expected);
    }
    assert_eq!(rig.refused("POST", "/v1/vms/web01/pause", json!({})).await, Code::VmNotRunning);
    let on = json!({ "on": "host-z" });
    assert_eq!(rig.refused("POST", "/v1/vms/web01/start", on).await, Code::HostUnknown);

    let started: VmView = rig.admin("POST", "/v1/vms/web01/start", json!({})).await;
    let own = started.ownership.unwrap();
    assert_eq!((own.owner.as_str(), own.epoch.0, own.settled), ("host-a", 1, true));
    assert_eq!(rig.refused("DELETE", "/v1/vms/web01", json!({})).await, Code::VmNotStopped);
    let intent = rig.heard("host-a", &[]).await;
    assert_eq!((intent.vms[0].desired, intent.vms[0].start_generation), (RunState::Running, 1));

    rig.heard("host-a", &[rig::facts(id, RunState::Running, 1)]).await;
    let shown: VmView = rig.admin("GET", &format!("/v1/vms/{id}"), Value::Null).await;
    assert_eq!((shown.state, shown.spec.machine.as_str()), (Some(RunState::Running), "pc-q35-7.2"));
    for (word, desired) in [("pause", RunState::Paused), ("resume", RunState::Running)] {
        let view: VmView = rig.admin("POST", &format!("/v1/vms/web01/{word}"), json!({})).await;
        assert_eq!(view.desired, desired);
    }
    rig.admin::<VmView>("POST", "/v1/vms/web01/stop", json!({})).await;
    assert_eq!(rig.refused("DELETE", "/v1/vms/web01", json!({})).await, Code::VmNotStopped);
    rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    rig.admin::<Value>("DELETE", "/v1/vms/web01", Value::Null).await;
    assert_eq!(rig.refused("GET", "/v1/vms/web01", Value::Null).await, Code::VmUnknown);
    assert_eq!(rig.admin::<Vec<VmView>>("GET", "/v1/vms", Value::Null).await, []);
    let words = rig.words("?vm=web01").await;
    let expected = "vm-created vm-started machine-fixed vm-paused vm-resumed vm-stopped vm-removed";
    assert_eq!(words.join(" "), expected);
}

#[tokio::test]
async fn a_guest_that_powers_off_stays_off_and_a_failed_start_is_shown() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let id = rig.started("web01", "host-a").await;
    let mut failed = rig::facts(id, RunState::Stopped, 1);
    failed.error = Some("no such kernel".into());
    rig.heard("host-a", &[failed]).await;
    let view: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
    assert_eq!((view.desired, view.error.as_deref()), (RunState::Running, Some("no such kernel")));
    // A start asked for again is a new one.
    rig.admin::<VmView>("POST", "/v1/vms/web01/start", json!({})).await;
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    assert_eq!((intent.vms[0].start_generation, intent.vms[0].desired), (2, RunState::Running));
    // Nobody but the owner is believed.
    rig.heard("host-b", &[rig::facts(id, RunState::Stopped, 2)]).await;
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Running, 2)]).await;
    assert_eq!(intent.vms[0].desired, RunState::Running);
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 2)]).await;
    assert_eq!(intent.vms[0].desired, RunState::Stopped);
    assert_eq!(rig.words("").await.last().unwrap(), "powered-off");
    // Stopped for certain, it may start elsewhere.
    let view: VmView = rig.admin("POST", "/v1/vms/web01/start", json!({ "on": "host-b" })).await;
    let own = view.ownership.unwrap();
    assert_eq!((own.owner.as_str(), own.epoch.0), ("host-b", 2));
    assert_eq!(rig.heard("host-a", &[]).await.vms, []);
}

#[tokio::test]
async fn a_migration_completes_and_its_history_has_no_gaps() {
    let rig = Rig::new().await;
    let (id, attempt) = rig.migrating().await;
    let path = |word: &str| format!("/v1/agent/vms/{id}/{word}");
    let attempts = format!("/v1/agent/attempts/{attempt}");
    assert_eq!(rig.refused("POST", "/v1/vms/web01/stop", json!({})).await, Code::MigrationUnderWay);
    assert_eq!(
        rig.refused("POST", "/v1/vms/web01/migrate", json!({})).await,
        Code::MigrationUnderWay
    );
    let source = rig.heard("host-a", &[]).await;
    let destination = rig.heard("host-b", &[]).await;
    assert_eq!(source.attempts, destination.attempts);
    assert_eq!(source.attempts[0].record.secret.len(), 64);
    assert_eq!(rig.heard("host-c", &[]).await.attempts, []);

    let event = rig::event("destination", 1, "listening", json!({ "destination": "10.0.0.2:7" }));
    let intent: AttemptIntent =
        rig.host("host-b", "POST", &format!("{attempts}/event"), event.clone()).await;
    assert_eq!(intent.record.destination.as_deref(), Some("10.0.0.2:7"));
    // Repeated, it is not recorded twice; from the wrong side, not at all.
    rig.host::<AttemptIntent>("host-b", "POST", &format!("{attempts}/event"), event.clone()).await;
    let (status, answer) =
        rig.call(&host("host-a"), "POST", &format!("{attempts}/event"), event).await;
    assert_eq!(code(status, &answer), Code::NotAllowed);
    let progress = json!({ "remaining_bytes": 1, "done_bytes": 2, "total_bytes": 3,
        "rate_bytes_per_second": 4, "dirty_bytes_per_second": 5, "rounds": 1, "sent_bytes": 6,
        "expected_seconds": null });
    rig.host::<Value>("host-a", "POST", &format!("{attempts}/progress"), progress).await;
    let shown: AttemptView =
        rig.admin("GET", &format!("/v1/attempts/{attempt}"), Value::Null).await;
    assert_eq!(shown.progress.unwrap().done_bytes, 2);

    let (status, answer) =
        rig.call(&host("host-a"), "POST", &path("claim"), rig::owner(attempt, 1)).await;
    assert_eq!(code(status, &answer), Code::Conflict);
    for _ in 0..2 {
        let own: Ownership =
            rig.host("host-b", "POST", &path("claim"), rig::owner(attempt, 1)).await;
        assert_eq!((own.owner.as_str(), own.epoch.0, own.settled), ("host-b", 2, false));
    }
    assert_eq!(rig.refused("POST", "/v1/vms/web01/cancel", json!({})).await, Code::TooLate);
    for _ in 0..2 {
        let own: Ownership =
            rig.host("host-b", "POST", &path("settle"), rig::owner(attempt, 2)).await;
        assert_eq!((own.attempt, own.settled), (None, true));
    }
    let patch = json!({ "source_ended": true, "blackout_seconds": 0.1, "rounds": 3 });
    let event = rig::event("source", 1, "released", patch);
    let intent: AttemptIntent =
        rig.host("host-a", "POST", &format!("{attempts}/event"), event).await;
    let report = &intent.record.report;
    assert_eq!(intent.record.phase, AttemptPhase::Done);
    assert_eq!((report.outcome, report.rounds), (Some(Outcome::Completed), 3));
    assert!(report.total_seconds.unwrap() >= 0.0);
    // Done, it is told only to those who ask.
    assert_eq!(rig.heard("host-a", &[]).await.attempts, []);
    let intent: AttemptIntent = rig.host("host-a", "GET", &attempts, Value::Null).await;
    assert_eq!(intent.ownership.owner.as_str(), "host-b");
    let words = rig.words("?after=3").await;
    assert_eq!(words.join(" "), "requested listening claimed settled released done");
    let all: Vec<HistoryEvent> = rig.admin("GET", "/v1/history", Value::Null).await;
    let numbers: Vec<u64> = all.iter().map(|e| e.seq).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    let some: Vec<HistoryEvent> =
        rig.admin("GET", "/v1/history?vm=web01&limit=2", Value::Null).await;
    assert_eq!(some, all[..2]);
}

#[tokio::test]
async fn a_cancelled_migration_ends_where_it_began() {
    let rig = Rig::new().await;
    let (id, attempt) = rig.migrating().await;
    let view: AttemptView = rig.admin("POST", "/v1/vms/web01/cancel", json!({})).await;
    assert_eq!(view.phase, AttemptPhase::Preparing);
    let claim = format!("/v1/agent/vms/{id}/claim");
    let (status, answer) = rig.call(&host("host-b"), "POST", &claim, rig::owner(attempt, 1)).await;
    assert_eq!(code(status, &answer), Code::Conflict);
    let reassert = format!("/v1/agent/vms/{id}/reassert");
    for _ in 0..2 {
        let own: Ownership = rig.host("host-a", "POST", &reassert, rig::owner(attempt, 1)).await;
        assert_eq!((own.owner.as_str(), own.epoch.0, own.attempt), ("host-a", 2, None));
    }
    let events = format!("/v1/agent/attempts/{attempt}/event");
    let ended = rig::event("source", 1, "kept", json!({ "source_ended": true }));
    rig.host::<AttemptIntent>("host-a", "POST", &events, ended).await;
    let view: AttemptView = rig.admin("GET", &format!("/v1/attempts/{attempt}"), Value::Null).await;
    assert_eq!(view.report.outcome, Some(Outcome::Cancelled));
    assert_eq!(view.report.reason.as_deref(), Some("cancelled by admin"));
    assert_eq!(view.phase, AttemptPhase::Done);
    assert_eq!(rig.refused("POST", "/v1/vms/web01/cancel", json!({})).await, Code::NoMigration);
    rig.heard("host-a", &[rig::facts(id, RunState::Running, 1)]).await;
    rig.admin::<AttemptView>("POST", "/v1/vms/web01/migrate", json!({ "to": "host-b" })).await;
}

#[tokio::test]
async fn migrations_are_refused_with_a_reason() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let migrate = "/v1/vms/web01/migrate";
    assert_eq!(rig.refused("POST", migrate, json!({})).await, Code::VmUnknown);
    rig.admin::<VmView>("POST", "/v1/vms", rig::spec("web01")).await;
    assert_eq!(rig.refused("POST", migrate, json!({})).await, Code::VmNotRunning);
    let started: VmView = rig.admin("POST", "/v1/vms/web01/start", json!({})).await;
    let id = started.spec.uuid.unwrap();
    assert_eq!(rig.refused("POST", migrate, json!({ "to": "host-b" })).await, Code::HostUnknown);
    rig.heard("host-b", &[]).await;
    assert_eq!(rig.refused("POST", migrate, json!({ "to": "host-b" })).await, Code::VmNotRunning);
    rig.heard("host-a", &[rig::facts(id, RunState::Running, 1)]).await;
    assert_eq!(rig.refused("POST", migrate, json!({ "to": "host-a" })).await, Code::SameHost);
    assert_eq!(rig.refused("POST", migrate, json!({ "too": 1 })).await, Code::InvalidRequest);
    let view: AttemptView = rig.admin("POST", migrate, json!({})).await;
    assert_eq!(view.report.to.as_str(), "host-b");
}

#[tokio::test]
async fn a_poll_answers_when_something_concerns_the_host() {
    let rig = Rig::new().await;
    let a = rig.heard("host-a", &[]).await;
    let b = rig.heard("host-b", &[]).await;
    rig.admin::<VmView>("POST", "/v1/vms", rig::spec("web01")).await;
    let poll = async |name: &str, since: u64, wait: u64| {
        let begun = Instant::now();
        (rig.sync(name, &[], &[], since, wait).await, begun.elapsed())
    };
    let (_, waited) = poll("host-b", b.revision, 60).await;
    assert!(waited >= Duration::from_millis(60), "{waited:?}");
    let start = async {
        tokio::task::yield_now().await;
        rig.admin::<VmView>("POST", "/v1/vms/web01/start", json!({ "on": "host-a" })).await
    };
    let ((news, waited), _) = tokio::join!(poll("host-a", a.revision, 30_000), start);
    assert_eq!(news.vms.len(), 1);
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    // Neither a first poll nor one of another store waits.
    for since in [0, a.revision, news.revision + 100] {
        let (_, waited) = poll("host-a", since, 30_000).await;
        assert!(waited < Duration::from_secs(4), "{since} {waited:?}");
    }
    let lost = types::AttemptId(uuid::Uuid::now_v7());
    let reply = rig.sync("host-a", &[], &[lost], 0, 0).await;
    assert_eq!(reply.unknown_attempts, [lost]);
}

#[tokio::test]
async fn each_role_has_its_own_paths() {
    let rig = Rig::new().await;
    let (id, attempt) = rig.migrating().await;
    let admin = rig::admin();
    let own = rig::owner(attempt, 1);
    for (peer, method, path, body) in [
        (&host("host-a"), "GET", "/v1/vms".to_owned(), Value::Null),
        (&host("host-a"), "GET", "/v1/history".to_owned(), Value::Null),
        (&host("host-a"), "POST", "/v1/vms/web01/cancel".to_owned(), json!({})),
        (&admin, "POST", format!("/v1/agent/vms/{id}/claim"), own.clone()),
        (&admin, "GET", format!("/v1/agent/attempts/{attempt}"), Value::Null),
        (&host("host-c"), "GET", format!("/v1/agent/attempts/{attempt}"), Value::Null),
        (&host("host-b"), "POST", "/v1/agent/sync".to_owned(), rig::sync("host-a", &[], &[], 0, 0)),
    ] {
        let (status, answer) = rig.call(peer, method, &path, body).await;
        assert_eq!(code(status, &answer), Code::NotAllowed, "{method} {path}");
    }
    for (method, path, expected) in [
        ("GET", "/v1/vms/a%2Fb", Code::InvalidRequest),
        ("GET", "/v1/vms/%ff", Code::InvalidRequest),
        ("GET", "/v1/attempts/x", Code::InvalidRequest),
        ("GET", "/v1/history?limit=x", Code::InvalidRequest),
        ("GET", "/v1/history?lmit=1", Code::InvalidRequest),
        ("GET", "/v1/attempts/01890000-0000-7000-8000-000000000001", Code::AttemptUnknown),
    ] {
        assert_eq!(rig.refused(method, path, Value::Null).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_controller_that_restarts_knows_everything() {
    let rig = Rig::new().await;
    let (id, attempt) = rig.migrating().await;
    let before = rig.heard("host-b", &[]).await;
    let history: Vec<HistoryEvent> = rig.admin("GET", "/v1/history", Value::Null).await;
    let rig = rig.restarted().await;
    assert_eq!(rig.admin::<Vec<HostView>>("GET", "/v1/hosts", Value::Null).await, []);
    let begun = Instant::now();
    let after = rig.sync("host-b", &[], &[], before.revision - 1, 30_000).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!((after.attempts, after.incarnation), (before.attempts, before.incarnation));
    let claim = format!("/v1/agent/vms/{id}/claim");
    let own: Ownership = rig.host("host-b", "POST", &claim, rig::owner(attempt, 1)).await;
    assert_eq!(own.epoch.0, 2);
    let later: Vec<HistoryEvent> = rig.admin("GET", "/v1/history", Value::Null).await;
    assert_eq!(later[..history.len()], history[..]);
    assert_eq!(later.last().unwrap().seq, history.len() as u64 + 1);
    let hosts: Vec<HostView> = rig.admin("GET", "/v1/hosts", Value::Null).await;
    assert_eq!((hosts.len(), hosts[0].up, hosts[0].vms.len()), (1, true, 1));
}

#[tokio::test]
async fn of_many_claims_and_cancels_at_once_the_last_sees_the_first() {
    for _ in 0..8 {
        let rig = Rig::new().await;
        let (id, attempt) = rig.migrating().await;
        let claim = format!("/v1/agent/vms/{id}/claim");
        let peer = host("host-b");
        let (claimed, cancelled) = tokio::join!(
            rig.call(&peer, "POST", &claim, rig::owner(attempt, 1)),
            rig.call(&rig.admin, "POST", "/v1/vms/web01/cancel", json!({})),
        );
        assert_ne!(claimed.0.is_success(), cancelled.0.is_success(), "{claimed:?} {cancelled:?}");
    }
}

#[tokio::test]
async fn what_a_host_said_of_an_earlier_stay_is_not_believed() {
    let rig = Rig::new().await;
    let (id, attempt) = rig.migrating().await;
    let path = |word: &str| format!("/v1/agent/vms/{id}/{word}");
    let before = rig.heard("host-b", &[]).await.revision;
    rig.host::<Ownership>("host-b", "POST", &path("claim"), rig::owner(attempt, 1)).await;
    rig.host::<Ownership>("host-b", "POST", &path("settle"), rig::owner(attempt, 2)).await;
    // Composed before the claim, it arrives after it: the VM must not be stopped.
    let stopped = [rig::facts(id, RunState::Stopped, 1)];
    for since in [before, 0, u64::MAX] {
        rig.sync("host-b", &stopped, &[], since, 0).await;
        let view: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
        assert_eq!(view.desired, RunState::Running, "{since}");
    }
    // Nor may it start on another host, or be removed, upon such a word.
    rig.admin::<VmView>("POST", "/v1/vms/web01/stop", json!({})).await;
    let start = "/v1/vms/web01/start";
    assert_eq!(rig.refused("POST", start, json!({ "on": "host-a" })).await, Code::VmNotStopped);
    // The owner's newest word is waited for.
    let begun = Instant::now();
    let newest = async {
        // An agent's news come with `since` 0; then it polls with what it was told.
        let told = rig.sync("host-b", &stopped, &[], 0, 0).await.revision;
        rig.sync("host-b", &stopped, &[], told, 0).await;
    };
    let (view, ()) =
        tokio::join!(rig.admin::<VmView>("POST", start, json!({ "on": "host-a" })), newest);
    assert!(begun.elapsed() < Duration::from_secs(1));
    let own = view.ownership.unwrap();
    assert_eq!((own.owner.as_str(), own.epoch.0), ("host-a", 3));
}

#[tokio::test]
async fn a_uuid_that_is_used_again_goes_on_counting() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let id = rig.started("web01", "host-a").await;
    rig.admin::<VmView>("POST", "/v1/vms/web01/stop", json!({})).await;
    rig.heard("host-a", &[]).await;
    rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    rig.admin::<Value>("DELETE", "/v1/vms/web01", Value::Null).await;
    let mut spec = rig::spec("web02");
    spec["uuid"] = json!(id);
    let made: VmView = rig.admin("POST", "/v1/vms", spec).await;
    assert_eq!((made.ownership, made.state), (None, None));
    let view: VmView = rig.admin("POST", "/v1/vms/web02/start", json!({})).await;
    assert_eq!(view.ownership.unwrap().epoch.0, 2);
    assert_eq!(rig.heard("host-a", &[]).await.vms[0].start_generation, 2);
}

#[tokio::test]
async fn a_destination_is_chosen_among_those_that_can_take_the_vm() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let id = rig.started("web01", "host-a").await;
    rig.heard("host-a", &[rig::facts(id, RunState::Running, 1)]).await;
    let mut other = rig::sync("host-b", &[], &[], 0, 0);
    other["host"]["accel"] = json!("kvm");
    other["host"]["memory"] = json!(64u64 << 30);
    rig.host::<Value>("host-b", "POST", "/v1/agent/sync", other).await;
    let migrate = "/v1/vms/web01/migrate";
    assert_eq!(rig.refused("POST", migrate, json!({})).await, Code::NoHost);
    let to = json!({ "to": "host-b" });
    assert_eq!(rig.refused("POST", migrate, to).await, Code::AccelDiffers);
    rig.heard("host-c", &[]).await;
    let view: AttemptView = rig.admin("POST", migrate, json!({})).await;
    assert_eq!(view.report.to.as_str(), "host-c");
}

#[tokio::test]
async fn a_button_reaches_the_owner_and_a_guest_that_reboots_starts_again() {
    let rig = Rig::new().await;
    let id = rig.running().await;
    let press = async |path: &str, body: Value| {
        let view: VmView = rig.admin("POST", &format!("/v1/vms/web01/{path}"), body).await;
        assert_eq!(view.desired, RunState::Running);
        let running = rig::facts(id, RunState::Running, view.start_generation);
        rig.heard("host-a", &[running]).await.vms[0].press.unwrap()
    };
    let reset = press("reboot", json!({ "hard": true })).await;
    assert_eq!((reset.button, reset.number, reset.start_generation), (Button::Reset, 1, 1));
    let reboot = press("reboot", json!({})).await;
    assert_eq!((reboot.button, reboot.number, reboot.epoch.0), (Button::Reboot, 2, 1));
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    assert_eq!((intent.vms[0].start_generation, intent.vms[0].desired), (2, RunState::Running));
    // The next time nobody asked for a reboot.
    assert_eq!(press("shutdown", json!({})).await.button, Button::Power);
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 2)]).await;
    assert_eq!(intent.vms[0].desired, RunState::Stopped);
    let off: VmView = rig.admin("POST", "/v1/vms/web01/shutdown", json!({})).await;
    assert_eq!(off.desired, RunState::Stopped, "it is off already");
    assert_eq!(rig.refused("POST", "/v1/vms/web01/reboot", json!({})).await, Code::VmNotRunning);
    let words = rig.words("?vm=web01").await.split_off(3);
    let expected = "vm-reset reboot-requested rebooted shutdown-requested powered-off";
    assert_eq!(words.join(" "), expected);
}

#[tokio::test]
async fn a_qemu_that_died_is_no_reboot_and_what_stands_still_hears_nothing() {
    let rig = Rig::new().await;
    let id = rig.running().await;
    rig.admin::<VmView>("POST", "/v1/vms/web01/reboot", json!({})).await;
    let mut died = rig::facts(id, RunState::Stopped, 1);
    died.ended = Some(Ended::Died);
    rig.heard("host-a", &[]).await;
    assert_eq!(rig.heard("host-a", &[died]).await.vms[0].desired, RunState::Stopped);
    rig.admin::<VmView>("POST", "/v1/vms/web01/start", json!({})).await;
    rig.heard("host-a", &[rig::facts(id, RunState::Running, 2)]).await;
    rig.admin::<VmView>("POST", "/v1/vms/web01/pause", json!({})).await;
    for path in ["shutdown", "reboot"] {
        let path = format!("/v1/vms/web01/{path}");
        assert_eq!(rig.refused("POST", &path, json!({})).await, Code::VmNotRunning);
    }
    let view: VmView = rig.admin("POST", "/v1/vms/web01/reboot", json!({ "hard": true })).await;
    assert_eq!(view.desired, RunState::Paused);
}

#[tokio::test]
async fn a_spec_changes_as_far_as_the_vm_allows() {
    let rig = Rig::new().await;
    rig.migrating().await;
    let words = json!({ "labels": { "rack": "7" }, "tier": "critical" });
    let view: VmView = rig.admin("POST", "/v1/vms/web01/set", words).await;
    assert_eq!((view.spec.tier.as_str(), view.spec.labels["rack"].as_str()), ("critical", "7"));
    let set = async |patch: Value| rig.refused("POST", "/v1/vms/web01/set", patch).await;
    assert_eq!(set(json!({ "vcpus": 2 })).await, Code::MigrationUnderWay);
    for wrong in [
        json!({ "vcpus": "x" }),
        json!({ "vcpsu": 1 }),
        json!({ "memory": 3 }),
        json!({ "memory": null }),
        json!({ "name": "b" }),
        json!({ "uuid": null }),
    ] {
        assert_eq!(set(wrong.clone()).await, Code::InvalidSpec, "{wrong}");
    }
    let rig = Rig::new().await;
    rig.running().await;
    let dry: VmView =
        rig.admin("POST", "/v1/vms/web01/set?dry_run=true", json!({ "owner": "x" })).await;
    assert_eq!(dry.spec.owner.unwrap().as_str(), "x");
    let set = async |patch: Value| rig.refused("POST", "/v1/vms/web01/set", patch).await;
    assert_eq!(set(json!({ "vcpus": 2, "tier": "x" })).await, Code::VmNotStopped);
    let view: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
    assert_eq!((view.spec.owner, view.spec.tier.as_str()), (None, "secondary"));
    let id = view.spec.uuid.unwrap();
    rig.admin::<VmView>("POST", "/v1/vms/web01/stop", json!({})).await;
    rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    let bigger = json!({ "vcpus": 2, "memory": 2u64 << 30 });
    rig.admin::<VmView>("POST", "/v1/vms/web01/set", bigger).await;
    rig.admin::<VmView>("POST", "/v1/vms/web01/start", json!({})).await;
    let intent = rig.heard("host-a", &[rig::facts(id, RunState::Stopped, 1)]).await;
    assert_eq!((intent.vms[0].spec.vcpus, intent.vms[0].spec.memory.0), (2, 2 << 30));
}
