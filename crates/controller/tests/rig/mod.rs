//! A controller upon a file, spoken to without a network.
// Not every test file uses all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::body::{HistoryEvent, SyncReply, VmFacts, VmView};
use api::{Peer, Role};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{EmbeddedStore, StoreError};
use tempfile::TempDir;
use tower::ServiceExt;
use types::{AttemptId, Code, Problem, RunState, VmId};

pub(crate) struct Rig {
    app: Router,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) admin: Peer,
    directory: TempDir,
    /// What each host was told last.
    told: Mutex<BTreeMap<String, u64>>,
}

pub(crate) fn host(name: &str) -> Peer {
    Peer { role: Role::Host, name: name.to_owned() }
}

pub(crate) fn admin() -> Peer {
    Peer { role: Role::Admin, name: "admin".to_owned() }
}

pub(crate) fn spec(name: &str) -> Value {
    json!({
        "name": name, "memory": 1 << 30, "machine": "q35",
        "boot": { "kernel": { "pool": "images", "file": "kernel" } },
        "nics": [{ "bridge": "br0" }],
    })
}

pub(crate) fn facts(vm: VmId, state: RunState, start_generation: u64) -> VmFacts {
    let machine = (state != RunState::Stopped).then(|| "pc-q35-7.2".to_owned());
    let (halted, ended, error) = (None, None, None);
    VmFacts { vm, state, start_generation, machine, halted, ended, error, blockers: Vec::new() }
}

pub(crate) fn owner(attempt: AttemptId, epoch: u64) -> Value {
    json!({ "attempt": attempt, "epoch": epoch, "incarnation": 1 })
}

pub(crate) fn event(side: &str, seq: u64, event: &str, patch: Value) -> Value {
    json!({ "side": side, "seq": seq, "event": event, "detail": null, "patch": patch })
}

pub(crate) fn sync(
    name: &str,
    vms: &[VmFacts],
    attempts: &[AttemptId],
    since: u64,
    wait_ms: u64,
) -> Value {
    let host = json!({
        "host": name, "address": "10.0.0.1", "cpus": 2, "memory": 4u64 << 30, "memory_used": 0,
        "qemu": "7.2.22", "accel": "tcg", "bridges": ["br0"], "pools": ["images"],
        "version": "0.1.0",
    });
    json!({ "host": host, "vms": vms, "attempts": attempts, "since": since, "wait_ms": wait_ms })
}

/// The code of a problem, whose status and kind must agree with it.
pub(crate) fn code(status: StatusCode, answer: &[u8]) -> Code {
    let problem: Problem = serde_json::from_slice(answer).unwrap();
    assert_eq!(problem.code.status(), status.as_u16());
    assert!(!problem.detail.is_empty());
    problem.code
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    async fn over(directory: TempDir) -> Self {
        let path = directory.path().join("store");
        // Tasks of a controller before this one may not have noticed its end yet.
        let mut opened = EmbeddedStore::open(&path).await;
        for _ in 0..500 {
            let Err(StoreError::InUse { .. }) = opened else { break };
            tokio::time::sleep(Duration::from_millis(10)).await;
            opened = EmbeddedStore::open(&path).await;
        }
        let store = Arc::new(opened.unwrap());
        let app = controller::app(Arc::clone(&store) as _).await.unwrap();
        Self { app, store, admin: admin(), directory, told: Mutex::default() }
    }

    pub(crate) async fn restarted(self) -> Self {
        drop((self.app, self.store));
        Self::over(self.directory).await
    }

    pub(crate) async fn call(
        &self,
        peer: &Peer,
        method: &str,
        path: &str,
        body: Value,
    ) -> (StatusCode, Vec<u8>) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        request.extensions_mut().insert(peer.clone());
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let expected =
            if status.is_success() { "application/json" } else { "application/problem+json" };
        assert_eq!(kind, expected, "{method} {path}");
        (status, to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        peer: &Peer,
        method: &str,
        path: &str,
        body: Value,
    ) -> T {
        let (status, answer) = self.call(peer, method, path, body).await;
        let text = String::from_utf8(answer).unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        let accepted = path.contains("/migrate");
        assert_eq!(status.as_u16(), if accepted { 202 } else { 200 });
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn admin<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> T {
        self.ask(&self.admin, method, path, body).await
    }

    pub(crate) async fn host<T: DeserializeOwned>(
        &self,
        name: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> T {
        self.ask(&host(name), method, path, body).await
    }

    /// The code with which an administrator's request is refused.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: Value) -> Code {
        let (status, answer) = self.call(&self.admin, method, path, body).await;
        code(status, &answer)
    }

    pub(crate) async fn sync(
        &self,
        name: &str,
        vms: &[VmFacts],
        attempts: &[AttemptId],
        since: u64,
        wait_ms: u64,
    ) -> SyncReply {
        let body = sync(name, vms, attempts, since, wait_ms);
        self.host(name, "POST", "/v1/agent/sync", body).await
    }

    /// A host that knows what it was told last says what it sees, and is answered
    /// at once.
    pub(crate) async fn heard(&self, name: &str, vms: &[VmFacts]) -> SyncReply {
        let since = self.told.lock().unwrap().get(name).copied().unwrap_or(0);
        let reply = self.sync(name, vms, &[], since, 0).await;
        self.told.lock().unwrap().insert(name.to_owned(), reply.revision);
        reply
    }

    /// The words of the history.
    pub(crate) async fn words(&self, query: &str) -> Vec<String> {
        let events: Vec<HistoryEvent> =
            self.admin("GET", &format!("/v1/history{query}"), Value::Null).await;
        events.into_iter().map(|e| e.event).collect()
    }

    /// A new VM that shall run on a host.
    pub(crate) async fn started(&self, name: &str, on: &str) -> VmId {
        self.admin::<VmView>("POST", "/v1/vms", spec(name)).await;
        let path = format!("/v1/vms/{name}/start");
        let view: VmView = self.admin("POST", &path, json!({ "on": on })).await;
        view.spec.uuid.unwrap()
    }

    /// web01 runs on host-a; host-b is there too.
    pub(crate) async fn running(&self) -> VmId {
        self.heard("host-a", &[]).await;
        let id = self.started("web01", "host-a").await;
        self.heard("host-a", &[facts(id, RunState::Running, 1)]).await;
        self.heard("host-b", &[]).await;
        id
    }

    /// Whether there is such an operation, whatever it answers.
    pub(crate) async fn serves(&self, method: &str, path: &str) -> bool {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let status = self.send(&self.admin, request).await.status();
        // Refused by role, for its parameter or body: in any case by a handler. The
        // router itself answers 404 or 405 without a problem.
        let kind = self.kind(method, path).await;
        assert!(kind.is_some() || [404, 405].contains(&status.as_u16()), "{method} {path}");
        kind.is_some()
    }

    async fn kind(&self, method: &str, path: &str) -> Option<String> {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.send(&self.admin, request).await;
        let kind = response.headers().get(header::CONTENT_TYPE)?;
        Some(kind.to_str().unwrap().to_owned())
    }

    pub(crate) async fn send(&self, peer: &Peer, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(peer.clone());
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// An administrator's request with a key: its status, whether it was answered
    /// before, and the answer.
    pub(crate) async fn keyed(
        &self,
        method: &str,
        path: &str,
        body: Value,
        key: &str,
    ) -> (StatusCode, bool, Value) {
        self.keyed_as(&self.admin, method, path, body, key).await
    }

    pub(crate) async fn keyed_as(
        &self,
        peer: &Peer,
        method: &str,
        path: &str,
        body: Value,
        key: &str,
    ) -> (StatusCode, bool, Value) {
        let request = Request::builder().method(method).uri(path);
        let key = axum::http::HeaderValue::from_bytes(key.as_bytes()).unwrap();
        let request = request.header("idempotency-key", key);
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.send(peer, request).await;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let answer = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, replayed, serde_json::from_slice(&answer).unwrap())
    }

    /// web01 runs on host-a and is on its way to host-b.
    pub(crate) async fn migrating(&self) -> (VmId, AttemptId) {
        let id = self.running().await;
        let to = json!({ "to": "host-b", "blackout_budget_ms": 100 });
        let view: api::body::AttemptView = self.admin("POST", "/v1/vms/web01/migrate", to).await;
        (id, view.report.attempt)
    }
}
