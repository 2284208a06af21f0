//! What the contract promises of every operation.
#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::BTreeSet;
use std::path::Path;

use api::body::{AttemptView, HostView, VmView};
use rig::{Rig, code, host};
use serde_json::{Value, json};
use types::Code;

/// Method and path of every operation of the document.
fn operations() -> BTreeSet<(String, String)> {
    let document = controller::openapi();
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone()))
    });
    each.collect()
}

/// A path with something plausible for its parameter.
fn filled(path: &str) -> String {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    match (path.find('{'), path.find('}')) {
        (Some(open), Some(close)) => format!("{}{uuid}{}", &path[..open], &path[close + 1..]),
        _ => path.to_owned(),
    }
}

#[tokio::test]
async fn every_operation_of_the_document_is_served_and_nothing_else() {
    let rig = Rig::new().await;
    let operations = operations();
    assert!(operations.len() > 20, "{operations:?}");
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path.clone()).collect();
    for path in &paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let documented = operations.contains(&(method.to_owned(), path.clone()));
            let served = rig.serves(method, &filled(path)).await;
            assert_eq!(served, documented, "{method} {path}");
        }
    }
    assert!(!rig.serves("GET", "/v1/nowhere").await);
}

/// A route that is made past `Routes` would be served and not documented.
#[test]
fn routes_are_made_in_one_place_only() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("routes.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for word in [".route(", ".nest(", ".route_service(", ".fallback("] {
                    assert!(!text.contains(word), "{}: {word}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 10);
}

#[tokio::test]
async fn the_document_that_is_served_is_whole() {
    let rig = Rig::new().await;
    let served: Value = rig.admin("GET", "/openapi.json", Value::Null).await;
    assert_eq!(served, *controller::openapi());
    let text = served.to_string();
    assert!(!text.contains("components/read"), "a reference has kept its first form");
    let schemas = served["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    let ids: Vec<_> = text.split("\"operationId\":\"").skip(1).collect();
    let unique: BTreeSet<_> = ids.iter().map(|id| id.split('"').next().unwrap()).collect();
    assert_eq!(ids.len(), unique.len());
    // What is read may leave out what has a default; what is told has it.
    let required = |name: &str| schemas[name]["required"].to_string();
    assert!(!required("VmSpecInput").contains("vcpus") && required("VmSpec").contains("vcpus"));
    let codes = schemas["Code"]["enum"].as_array().unwrap();
    assert_eq!(codes.len(), Code::ALL.len());
}

#[tokio::test]
async fn problems_are_those_of_rfc_9457() {
    let rig = Rig::new().await;
    let (status, body) = rig.call(&rig.admin, "GET", "/v1/vms/web01", Value::Null).await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        problem,
        json!({
            "type": "urn:godwit:problem:vm-unknown",
            "title": "No VM of that name or UUID.",
            "status": 404,
            "detail": "there is no VM web01",
            "code": "vm-unknown",
            "remedy": "see `godwit vm ls`",
        })
    );
    assert_eq!(status, 404);
}

#[tokio::test]
async fn roles_are_asked_for_before_anything_else() {
    let rig = Rig::new().await;
    for (method, path) in operations() {
        let agents = path.starts_with("/v1/agent/");
        let stranger = if agents { rig.admin.clone() } else { host("host-a") };
        if path == "/openapi.json" || path == api::path::ENROLL {
            continue;
        }
        let (status, body) = rig.call(&stranger, &method, &filled(&path), json!("wrong")).await;
        assert_eq!(code(status, &body), Code::NotAllowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_dry_run_answers_and_does_nothing() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let made: VmView = rig.admin("POST", "/v1/vms?dry_run=true", rig::spec("web01")).await;
    assert_eq!(made.spec.name.as_str(), "web01");
    assert_eq!(rig.refused("GET", "/v1/vms/web01", Value::Null).await, Code::VmUnknown);
    rig.admin::<VmView>("POST", "/v1/vms?dry_run=false", rig::spec("web01")).await;
    assert_eq!(
        rig.refused("POST", "/v1/vms?dry_run=true", rig::spec("web01")).await,
        Code::VmExists
    );
    let begun: VmView = rig.admin("POST", "/v1/vms/web01/start?dry_run=true", json!({})).await;
    assert_eq!(begun.ownership.unwrap().owner.as_str(), "host-a");
    let shown: VmView = rig.admin("GET", "/v1/vms/web01", Value::Null).await;
    assert_eq!(shown.ownership, None);
    rig.admin::<Value>("DELETE", "/v1/vms/web01?dry_run=true", Value::Null).await;
    assert_eq!(rig.words("").await, ["vm-created"]);
    for query in ["?dry_run=yes", "?dry_run", "?dry_runs=true"] {
        let path = format!("/v1/vms/web01/start{query}");
        assert_eq!(rig.refused("POST", &path, json!({})).await, Code::InvalidRequest, "{query}");
    }
    // What changes nothing anyway does not take it.
    assert_eq!(
        rig.refused("GET", "/v1/hosts?dry_run=true", Value::Null).await,
        Code::InvalidRequest
    );
}

#[tokio::test]
async fn a_dry_migration_takes_no_slot() {
    let rig = Rig::new().await;
    let id = rig.running().await;
    let path = "/v1/vms/web01/migrate";
    let dry: AttemptView = rig.admin("POST", &format!("{path}?dry_run=true"), json!({})).await;
    assert_eq!(dry.report.to.as_str(), "host-b");
    let attempt = format!("/v1/attempts/{}", dry.report.attempt);
    assert_eq!(rig.refused("GET", &attempt, Value::Null).await, Code::AttemptUnknown);
    let view: VmView = rig.admin("GET", &format!("/v1/vms/{id}"), Value::Null).await;
    assert_eq!(view.ownership.unwrap().attempt, None);
    let same = json!({ "to": "host-a" });
    assert_eq!(rig.refused("POST", &format!("{path}?dry_run=true"), same).await, Code::SameHost);
}

#[tokio::test]
async fn the_same_key_does_nothing_twice_and_outlives_a_restart() {
    let rig = Rig::new().await;
    rig.running().await;
    let path = "/v1/vms/web01/migrate";
    let to = json!({ "to": "host-b" });
    let first = rig.keyed("POST", path, to.clone(), "key-1").await;
    assert_eq!((first.0.as_u16(), first.1), (202, false));
    let rig = rig.restarted().await;
    let again = rig.keyed("POST", path, to.clone(), "key-1").await;
    assert_eq!((again.0.as_u16(), again.1), (202, true));
    assert_eq!(first.2, again.2);
    // Without the key, or with another, it is a second migration.
    assert_eq!(rig.keyed("POST", path, to.clone(), "key-2").await.0, 409);
    // The same key with another body, path or method is a mistake.
    let (status, _, body) = rig.keyed("POST", path, json!({}), "key-1").await;
    assert_eq!(code(status, body.to_string().as_bytes()), Code::IdempotencyKeyReused);
    assert_eq!(rig.keyed("POST", "/v1/vms/web01/cancel", json!({}), "key-1").await.0, 422);
    // Another user's keys are his own.
    let other = api::Peer { name: "other".to_owned(), ..rig::admin() };
    assert_eq!(rig.keyed_as(&other, "POST", path, to.clone(), "key-1").await.0, 409);
    assert_eq!(rig.words("?vm=web01").await.iter().filter(|w| *w == "requested").count(), 1);
}

#[tokio::test]
async fn a_key_remembers_what_changed_nothing_but_no_refusal() {
    let rig = Rig::new().await;
    let start = "/v1/vms/web01/start";
    // Refused: nothing was done, so the same request may succeed later.
    assert_eq!(rig.keyed("POST", start, json!({}), "k").await.0, 404);
    rig.heard("host-a", &[]).await;
    rig.admin::<VmView>("POST", "/v1/vms", rig::spec("web01")).await;
    assert_eq!(rig.keyed("POST", start, json!({}), "k").await.0, 200);
    // It runs already: nothing changes, and that is remembered too.
    assert_eq!(rig.keyed("POST", start, json!({}), "again").await.0, 200);
    rig.admin::<VmView>("POST", "/v1/vms/web01/stop", json!({})).await;
    let (status, replayed, _) = rig.keyed("POST", start, json!({}), "again").await;
    assert!(status == 200 && replayed);
    assert_eq!(rig.words("").await, ["vm-created", "vm-started", "vm-stopped"]);
    for key in ["", "a b", &"x".repeat(256), "ü"] {
        let (status, _, body) = rig.keyed("POST", start, json!({}), key).await;
        assert_eq!(code(status, body.to_string().as_bytes()), Code::InvalidRequest, "{key}");
    }
}

#[tokio::test]
async fn of_two_at_the_same_time_one_is_done_and_both_are_answered() {
    let rig = Rig::new().await;
    rig.running().await;
    let one = || rig.keyed("POST", "/v1/vms/web01/migrate", json!({}), "key");
    let all = tokio::join!(one(), one(), one(), one());
    for answer in [&all.0, &all.1, &all.2, &all.3] {
        assert_eq!((answer.0.as_u16(), &answer.2), (202, &all.0.2));
    }
    assert_eq!(rig.words("?vm=web01").await.iter().filter(|w| *w == "requested").count(), 1);
}

#[tokio::test]
async fn a_host_that_spoke_is_listed() {
    let rig = Rig::new().await;
    rig.heard("host-a", &[]).await;
    let hosts: Vec<HostView> = rig.admin("GET", "/v1/hosts", Value::Null).await;
    assert_eq!(hosts.len(), 1);
}
