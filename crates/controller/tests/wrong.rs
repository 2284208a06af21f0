//! Wrong requests: each is answered with a problem that names the place, and nothing
//! is changed or lost by any.
#![allow(clippy::unwrap_used)]

mod rig;

use api::body::{HistoryEvent, VmView};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use proptest::prelude::*;
use rig::Rig;
use serde_json::{Value, json};
use types::{Code, Problem, VmName, VmSpec};

/// Largest answer to a wrong request, in bytes.
const BOUND: usize = 4096;

/// What a user could lose.
async fn everything(rig: &Rig) -> (Vec<VmView>, Vec<HistoryEvent>) {
    (
        rig.admin("GET", "/v1/vms", Value::Null).await,
        rig.admin("GET", "/v1/history", Value::Null).await,
    )
}

async fn problem(rig: &Rig, method: &str, path: &str, body: Body) -> Problem {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let response = rig.send(&rig.admin, request).await;
    let status = response.status();
    assert!(status.is_client_error(), "{method} {path:.80}: {status}");
    let kind = response.headers()[header::CONTENT_TYPE].clone();
    assert_eq!(kind, "application/problem+json", "{method} {path:.80}");
    let answer = to_bytes(response.into_body(), BOUND).await.unwrap();
    assert_eq!(rig::code(status, &answer).status(), status.as_u16());
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test]
async fn wrong_bodies_are_told_where_they_are_wrong() {
    let rig = Rig::new().await;
    rig.running().await;
    let before = everything(&rig).await;
    let long = "x".repeat(10_000);
    let named = |name: &str| json!({ "name": name, "memory": 2 << 20 }).to_string();
    let spec = |more: &str| format!("{{\"name\": \"a\", \"memory\": \"2MiB\",\n {more}}}");
    let cases: &[(String, Code, &[&str])] = &[
        (named("a/b"), Code::InvalidRequest, &["name:", "a/b", "line 1 column"]),
        (named("a,b"), Code::InvalidRequest, &["name:"]),
        (named("a\nb"), Code::InvalidRequest, &["name:"]),
        (named("\u{1b}[31m"), Code::InvalidRequest, &["name:"]),
        (named(""), Code::InvalidRequest, &["name:"]),
        (named(&long), Code::InvalidRequest, &["name:", "1 to 63"]),
        (spec("\"vcpus\": \"two\""), Code::InvalidRequest, &["vcpus:", "line 2 column"]),
        (spec("\"vcpsu\": 1"), Code::InvalidRequest, &["vcpsu", "line 2 column"]),
        (spec(&format!("\"{long}\": 1")), Code::InvalidRequest, &["unknown field", "line 2"]),
        (spec("\"vcpus\": 0"), Code::InvalidSpec, &["vcpus: must be 1 to 255"]),
        (spec("\"disks\": [{\"pool\": \"p\"}]"), Code::InvalidRequest, &["disks[0]", "file"]),
        (
            spec("\"cloud_init\": {\"user_data\": {\"file\": \"/etc/passwd\"}}"),
            Code::InvalidSpec,
            &["cloud_init.user_data:"],
        ),
        ("{\"name\": \"a\"".to_owned(), Code::InvalidRequest, &["EOF", "line 1 column"]),
        ("name = \"a\"".to_owned(), Code::InvalidRequest, &["line 1 column 2"]),
        ("[]".to_owned(), Code::InvalidRequest, &["line 1"]),
        ("{} {}".to_owned(), Code::InvalidRequest, &["name"]),
        ("[".repeat(100_000), Code::InvalidRequest, &["line 1 column"]),
        ("\"\u{0}\"".to_owned(), Code::InvalidRequest, &["line 1 column"]),
        ("x".repeat(100 << 20), Code::InvalidRequest, &["larger than 4 MiB"]),
    ];
    for (body, code, told) in cases {
        let problem = problem(&rig, "POST", "/v1/vms", Body::from(body.clone())).await;
        assert_eq!(problem.code, *code, "{body:.80}: {problem:?}");
        for part in *told {
            assert!(problem.detail.contains(part), "{body:.80}: {part} is not in {problem:?}");
        }
    }
    let not_utf8 = problem(&rig, "POST", "/v1/vms", Body::from(&b"{\"name\": \"\xff\"}"[..])).await;
    assert_eq!(not_utf8.code, Code::InvalidRequest);
    assert_eq!(everything(&rig).await, before);
}

#[tokio::test]
async fn wrong_paths_queries_and_keys_are_refused() {
    let rig = Rig::new().await;
    rig.running().await;
    let before = everything(&rig).await;
    let long = "x".repeat(10_000);
    for name in ["a%2Fb", "a,b", "a%0Ab", "%00", "%ff", "..%2F..", "a%20b", &long, "%E2%82%AC"] {
        for (method, path) in [
            ("GET", format!("/v1/vms/{name}")),
            ("DELETE", format!("/v1/vms/{name}")),
            ("POST", format!("/v1/vms/{name}/start")),
            ("POST", format!("/v1/hosts/{name}/cordon")),
            ("GET", format!("/v1/attempts/{name}")),
            ("GET", format!("/v1/history?vm={name}")),
            ("GET", format!("/v1/events?vm={name}")),
        ] {
            let problem = problem(&rig, method, &path, Body::empty()).await;
            assert_eq!(problem.code, Code::InvalidRequest, "{method} {path:.80}");
        }
    }
    for (method, path, told) in [
        ("GET", "/v1/history?after=-1", "after"),
        ("GET", "/v1/history?atfer=1", "atfer"),
        ("GET", "/v1/history?limit=99999999999", "limit"),
        ("GET", "/v1/events?after=x", "after"),
        ("GET", "/v1/vms?dry_run=true", "dry_run"),
        ("POST", "/v1/vms/web01/stop?dry_run=maybe", "dry_run"),
        ("POST", "/v1/vms/web01/stop?hard=1", "hard"),
    ] {
        let problem = problem(&rig, method, path, Body::empty()).await;
        assert_eq!(problem.code, Code::InvalidRequest, "{path}");
        assert!(problem.detail.contains(told), "{path}: {problem:?}");
    }
    for key in ["", "a b", "ä", "a,\tb", long.as_str()] {
        let (status, replayed, answer) =
            rig.keyed("POST", "/v1/vms/web01/stop", json!({}), key).await;
        assert_eq!((status, replayed), (StatusCode::BAD_REQUEST, false), "{key:.20}");
        assert!(answer["detail"].as_str().unwrap().contains("dempotency"), "{answer}");
    }
    assert_eq!(everything(&rig).await, before);
}

proptest! {
    // Each case is a controller with a store of its own.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A path may hold anything: it is a VM's name or it is refused, never more.
    #[test]
    fn any_path_is_answered(name in "[!-.0-~]{1,80}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new().await;
            let Ok(request) =
                Request::builder().uri(format!("/v1/vms/{name}")).body(Body::empty()) else { return };
            let status = rig.send(&rig.admin, request).await.status();
            let expected = match name.parse::<VmName>() {
                Ok(_) => &[404][..],
                // What is escaped may be a name, and what follows `?` is a query.
                Err(_) => &[400, 404],
            };
            assert!(expected.contains(&status.as_u16()), "{name}: {status}");
        });
    }

    /// Whatever is sent as a spec, it is made a VM whole, or refused and not made.
    #[test]
    fn any_spec_is_made_or_refused(name in "\\PC{0,70}", vcpus in any::<i64>(), memory in any::<u64>(),
            label in "\\PC{0,8}", file in "\\PC{0,70}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new().await;
            let body = json!({
                "name": name, "vcpus": vcpus, "memory": memory, "labels": { label: "" },
                "disks": [{ "pool": "p", "file": file, "format": "raw" }],
            });
            let (status, _) = rig.call(&rig.admin, "POST", "/v1/vms", body.clone()).await;
            let good = serde_json::from_value::<VmSpec>(body).is_ok_and(|spec| spec.check().is_ok());
            assert_eq!(status.as_u16(), if good { 200 } else { 400 });
            let all: Vec<VmView> = rig.admin("GET", "/v1/vms", Value::Null).await;
            assert_eq!(all.len(), usize::from(good));
        });
    }
}
