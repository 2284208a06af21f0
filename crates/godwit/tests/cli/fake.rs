//! A controller that answers what it is told to, and `godwit` asking it.

use std::collections::VecDeque;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use api::body::{AttemptView, HistoryEvent, HistoryQuery, VmView};
use api::certs::{self, Party};
use api::tls::{self, Identity};
use api::{Json, Rejection, path};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use types::{AttemptPhase, MigrationReport, Outcome, Problem, Progress};

/// What the controller will say; the last of several views is said for ever.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) refuse: Option<Problem>,
    pub(crate) attempts: VecDeque<AttemptView>,
    pub(crate) vms: VecDeque<VmView>,
    pub(crate) history: Vec<HistoryEvent>,
    /// Requests for a change so far.
    pub(crate) asked: usize,
}

type Shared = Arc<Mutex<Script>>;

fn next<T: Clone>(views: &mut VecDeque<T>) -> T {
    let first = views.front().unwrap().clone();
    if views.len() > 1 {
        views.pop_front();
    }
    first
}

async fn migrate(State(script): State<Shared>) -> Response {
    let mut script = script.lock().unwrap();
    match script.refuse.clone() {
        Some(problem) => Rejection(problem).into_response(),
        None => (StatusCode::ACCEPTED, Json(next(&mut script.attempts))).into_response(),
    }
}

async fn attempt(State(script): State<Shared>) -> Json<AttemptView> {
    Json(next(&mut script.lock().unwrap().attempts))
}

async fn vm(State(script): State<Shared>) -> Json<VmView> {
    Json(next(&mut script.lock().unwrap().vms))
}

async fn turn(State(script): State<Shared>) -> Json<VmView> {
    let mut script = script.lock().unwrap();
    script.asked += 1;
    Json(next(&mut script.vms))
}

async fn vms(State(script): State<Shared>) -> Json<Vec<VmView>> {
    Json(script.lock().unwrap().vms.iter().cloned().collect())
}

async fn hosts() -> Json<serde_json::Value> {
    Json(serde_json::json!([{
        "host": "host-b", "address": "10.0.0.2", "cpus": 2, "memory": 1 << 30,
        "memory_used": 0, "qemu": "7.2.0", "accel": "tcg", "bridges": [], "pools": [],
        "version": "0.1.0", "up": true, "heard_seconds": 0.1, "vms": [],
    }]))
}

/// At most two events at once, whatever is asked for.
async fn history(
    State(script): State<Shared>,
    Query(query): Query<HistoryQuery>,
) -> Json<Vec<HistoryEvent>> {
    let after = query.after.unwrap_or(0);
    let limit = query.limit.unwrap_or(2).min(2) as usize;
    let script = script.lock().unwrap();
    Json(script.history.iter().filter(|e| e.seq > after).take(limit).cloned().collect())
}

/// The controller, and where its certificates are.
pub(crate) struct Fake {
    dir: TempDir,
    port: u16,
    script: Shared,
    running: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
}

impl Fake {
    pub(crate) async fn start(script: Script) -> Self {
        let dir = TempDir::new().unwrap();
        certs::create_ca(dir.path()).unwrap();
        certs::issue(dir.path(), &Party::Controller).unwrap();
        certs::issue(dir.path(), &Party::Admin("admin".to_owned())).unwrap();
        let script = Arc::new(Mutex::new(script));
        let mut fake = Self { dir, port: 0, script, running: None };
        fake.resume().await;
        fake
    }

    /// Starts it again, at the same address.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let file = |name: &str| self.dir.path().join(name);
        let tls = tls::server_config(&Identity {
            ca: file("ca.pem"),
            cert: file("controller.pem"),
            key: file("controller.key"),
        })
        .unwrap();
        let app = Router::new()
            .route(path::VM_MIGRATE, post(migrate))
            .route(path::ATTEMPT, get(attempt))
            .route(path::VM, get(vm))
            .route(path::VM_START, post(turn))
            .route(path::VM_SHUTDOWN, post(turn))
            .route(path::VM_REBOOT, post(turn))
            .route(path::VM_PAUSE, post(turn))
            .route(path::VMS, get(vms))
            .route(path::HOSTS, get(hosts))
            .route(path::HISTORY, get(history))
            .with_state(Arc::clone(&self.script));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(api::serve(listener, tls, app, async {
            let _ = stopped.await;
        }));
        self.running = Some((stop, task));
    }

    pub(crate) async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
    }

    pub(crate) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Returns once a change has been asked for.
    pub(crate) async fn asked(&self) {
        while self.script().asked == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// `godwit` with the words of `line`, ready to be started.
    pub(crate) fn command(&self, line: &str) -> Command {
        let file = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit"));
        command
            .args(line.split_whitespace())
            .env("GODWIT_CONTROLLER", format!("https://127.0.0.1:{}", self.port))
            .env("GODWIT_CA", file("ca.pem"))
            .env("GODWIT_CERT", file("admin.pem"))
            .env("GODWIT_KEY", file("admin.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `godwit` to its end.
    pub(crate) async fn run(&self, line: &str) -> Ended {
        Ended::of(self.command(line).output().await.unwrap())
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// An attempt that is so far.
pub(crate) fn at(phase: AttemptPhase) -> AttemptView {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let (vm, from, to) = ("web01", "host-a", "host-b");
    let (vm, from, to) = (vm.parse().unwrap(), from.parse().unwrap(), to.parse().unwrap());
    AttemptView { phase, progress: None, report: MigrationReport::begun(id, vm, from, to, 2 << 30) }
}

/// An attempt in its copy phase.
pub(crate) fn copying(remaining: u64) -> AttemptView {
    let progress = Progress {
        remaining_bytes: remaining,
        done_bytes: (2 << 30) - remaining,
        total_bytes: 2 << 30,
        rate_bytes_per_second: 100 << 20,
        ..Progress::default()
    };
    AttemptView { progress: Some(progress), ..at(AttemptPhase::Copying) }
}

/// An attempt that has ended.
pub(crate) fn ended(outcome: Outcome, reason: Option<&str>) -> AttemptView {
    let mut view = at(AttemptPhase::Done);
    view.report.outcome = Some(outcome);
    view.report.reason = reason.map(str::to_owned);
    view.report.total_seconds = Some(4.0);
    view
}
