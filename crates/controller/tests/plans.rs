//! Plans: made, compared with the fleet, applied, carried out, over a restart too.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use api::body::VmView;
use rig::{Rig, event, facts, owner};
use serde_json::{Value, json};
use types::{AttemptId, Code, MoveState, PlanRun, RunState, VmId};

const DRAIN: fn() -> Value = || json!({ "goal": { "goal": "drain", "hosts": ["host-a"] } });

/// Looks at a plan until it is as wanted.
async fn until(rig: &Rig, run: &PlanRun, wanted: impl Fn(&PlanRun) -> bool) -> PlanRun {
    let path = format!("/v1/plans/{}", run.id);
    for _ in 0..400 {
        let run: PlanRun = rig.admin("GET", &path, Value::Null).await;
        if wanted(&run) {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the plan does not go on");
}

fn moving(run: &PlanRun) -> Option<AttemptId> {
    run.moves.iter().find_map(|m| match m.state {
        MoveState::Moving { attempt } => Some(attempt),
        _ => None,
    })
}

/// Plays both hosts of an attempt to its end, once it has begun.
async fn moved(rig: &Rig, vm: VmId, attempt: AttemptId, (from, to): (&str, &str), epoch: u64) {
    let path = format!("/v1/attempts/{attempt}");
    for _ in 0..400 {
        if rig.call(&rig.admin, "GET", &path, Value::Null).await.0.is_success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let path = |what: &str| format!("/v1/agent/vms/{vm}/{what}");
    rig.host::<Value>(to, "POST", &path("claim"), owner(attempt, epoch)).await;
    rig.host::<Value>(to, "POST", &path("settle"), owner(attempt, epoch + 1)).await;
    let ended = event("source", 1, "released", json!({ "source_ended": true }));
    rig.host::<Value>(from, "POST", &format!("/v1/agent/attempts/{attempt}/event"), ended).await;
    rig.heard(from, &[]).await;
    rig.heard(to, &[facts(vm, RunState::Running, 1)]).await;
}

#[tokio::test]
async fn the_same_state_gives_the_same_plan_and_a_drifted_one_is_refused() {
    let rig = Rig::new().await;
    rig.running().await;
    let plan: Value = rig.admin("POST", "/v1/plan", DRAIN()).await;
    let again: Value = rig.admin("POST", "/v1/plan", DRAIN()).await;
    assert_eq!(plan.to_string(), again.to_string());
    assert_eq!(plan["plan"]["moves"][0]["to"], "host-b");
    assert!(rig.words("").await.iter().all(|word| word != "host-cordoned"));

    let mut bent = plan.clone();
    bent["plan"]["moves"][0]["to"] = json!("host-c");
    assert_eq!(rig.refused("POST", "/v1/plans", bent).await, Code::InvalidRequest);
    let other = json!({ "goal": { "goal": "drain", "hosts": ["host-z"] } });
    assert_eq!(rig.refused("POST", "/v1/plan", other).await, Code::HostUnknown);

    rig.admin::<Value>("POST", "/v1/hosts/host-b/cordon", json!({})).await;
    let (status, answer) = rig.call(&rig.admin, "POST", "/v1/plans", plan.clone()).await;
    assert_eq!(rig::code(status, &answer), Code::PlanDrifted);
    assert!(String::from_utf8_lossy(&answer).contains("host host-b was"));
    let blocked: Value = rig.admin("POST", "/v1/plan", DRAIN()).await;
    assert_eq!(blocked["plan"]["blocked"][0]["vm"], "web01");
}

#[tokio::test]
async fn a_drain_displaces_and_a_restore_brings_home_over_a_restart() {
    let rig = Rig::new().await;
    let vm = rig.running().await;
    let plan: Value = rig.admin("POST", "/v1/plan", DRAIN()).await;
    let run: PlanRun = rig.admin("POST", "/v1/plans", plan.clone()).await;
    let begun = until(&rig, &run, |run| moving(run).is_some()).await;
    let attempt = moving(&begun).unwrap();
    let twice: PlanRun = rig.admin("POST", "/v1/plans", plan).await;
    assert_eq!(twice.id, run.id, "the same drain is one");

    let rig = rig.restarted().await;
    rig.heard("host-a", &[facts(vm, RunState::Running, 1)]).await;
    rig.heard("host-b", &[]).await;
    moved(&rig, vm, attempt, ("host-a", "host-b"), 1).await;
    let ended = until(&rig, &run, |run| run.ended.is_some()).await;
    assert!(ended.complete() && ended.moves.len() == 1, "{ended:?}");
    let view: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
    assert_eq!(view.home.unwrap().as_str(), "host-a");

    let goal = json!({ "goal": { "goal": "restore", "hosts": ["host-a"] } });
    let plan: Value = rig.admin("POST", "/v1/plan", goal).await;
    let run: PlanRun = rig.admin("POST", "/v1/plans", plan).await;
    let begun = until(&rig, &run, |run| moving(run).is_some()).await;
    moved(&rig, vm, moving(&begun).unwrap(), ("host-b", "host-a"), 2).await;
    let ended = until(&rig, &run, |run| run.ended.is_some()).await;
    assert!(ended.complete(), "{ended:?}");
    let view: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
    assert_eq!((view.home, view.ownership.unwrap().owner.as_str()), (None, "host-a"));
    let words = rig.words("").await;
    for word in ["plan-applied", "host-cordoned", "plan-ended", "host-uncordoned"] {
        assert!(words.iter().any(|w| w == word), "{word}: {words:?}");
    }
}

#[tokio::test]
async fn a_stopped_plan_ends_what_it_began() {
    let rig = Rig::new().await;
    let vm = rig.running().await;
    let plan: Value = rig.admin("POST", "/v1/plan", DRAIN()).await;
    let run: PlanRun = rig.admin("POST", "/v1/plans", plan).await;
    let begun = until(&rig, &run, |run| moving(run).is_some()).await;
    let stop = format!("/v1/plans/{}/stop", run.id);
    rig.admin::<PlanRun>("POST", &stop, json!({})).await;
    moved(&rig, vm, moving(&begun).unwrap(), ("host-a", "host-b"), 1).await;
    let ended = until(&rig, &run, |run| run.ended.is_some()).await;
    assert!(ended.stopping && !ended.complete() && ended.left.is_empty());
    assert_eq!(
        rig.refused("GET", &format!("/v1/plans/{}", uuid::Uuid::nil()), Value::Null).await,
        Code::PlanUnknown
    );
}
