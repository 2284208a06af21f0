//! The whole program over real TLS, with the client that everybody uses.
#![allow(clippy::unwrap_used)]

mod rig;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use api::body::{HistoryQuery, MigrateRequest, OwnershipRequest, StartRequest, SyncRequest};
use api::certs::{self, Party};
use api::{Client, ClientConfig, ClientError};
use controller::{ControllerConfig, ControllerError, run};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::{Code, Epoch, RunState, VmId, VmName};

/// Certificates of a small fleet and a free address.
fn fleet() -> (TempDir, ControllerConfig) {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    certs::create_ca(path).unwrap();
    let host = |name: &str| Party::Host(name.parse().unwrap());
    let admin = Party::Admin("admin".to_owned());
    for party in [Party::Controller, host("host-a"), host("host-b"), admin] {
        certs::issue(path, &party).unwrap();
    }
    let config = ControllerConfig {
        listen: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        ca: path.join("ca.pem"),
        cert: path.join("controller.pem"),
        key: path.join("controller.key"),
        store: path.join("store"),
        ca_key: None,
        certificate_life: controller::Life::default(),
    };
    (directory, config)
}

fn client(directory: &Path, stem: &str, address: SocketAddr) -> Client {
    Client::new(ClientConfig {
        controller: format!("https://{address}"),
        ca: directory.join("ca.pem"),
        cert: directory.join(format!("{stem}.pem")),
        key: directory.join(format!("{stem}.key")),
    })
    .unwrap()
}

/// Runs a controller, and waits until it answers.
async fn started(
    config: &ControllerConfig,
    admin: &Client,
) -> JoinHandle<Result<(), ControllerError>> {
    let running = tokio::spawn(run(config.clone()));
    for _ in 0..500 {
        match admin.hosts().await {
            Err(ClientError::Unreachable { .. }) if !running.is_finished() => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answer => {
                answer.unwrap();
                return running;
            }
        }
    }
    panic!("the controller does not answer");
}

fn facts(host: &str, vm: Option<(VmId, RunState)>, since: u64) -> SyncRequest {
    let vms: Vec<_> = vm.iter().map(|(vm, state)| rig::facts(*vm, *state, 1)).collect();
    serde_json::from_value(rig::sync(host, &vms, &[], since, 0)).unwrap()
}

#[tokio::test]
async fn a_migration_goes_through_the_typed_client_and_a_restart() {
    let (directory, config) = fleet();
    let party = |stem| client(directory.path(), stem, config.listen);
    let (admin, a, b) = (party("admin"), party("host-a"), party("host-b"));
    let running = started(&config, &admin).await;

    a.sync(&facts("host-a", None, 0)).await.unwrap();
    let spec = serde_json::from_value(rig::spec("web01")).unwrap();
    let vm = admin.create_vm(&spec).await.unwrap().spec.uuid.unwrap();
    let name: VmName = "web01".parse().unwrap();
    admin.start(&name, &StartRequest::default()).await.unwrap();
    let told = a.sync(&facts("host-a", None, 0)).await.unwrap();
    assert_eq!(told.vms.len(), 1);
    a.sync(&facts("host-a", Some((vm, RunState::Running)), told.revision)).await.unwrap();
    b.sync(&facts("host-b", None, 0)).await.unwrap();
    let view = admin.migrate(&name, &MigrateRequest::default()).await.unwrap();
    let attempt = view.report.attempt;

    // A second controller on the same store is told so.
    let other = ControllerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config.clone() };
    let error = run(other).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");

    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let running = started(&config, &admin).await;
    let request =
        |epoch| OwnershipRequest { attempt, epoch: Epoch(epoch), incarnation: told.incarnation };
    assert_eq!(b.attempt_intent(attempt).await.unwrap().ownership.owner.as_str(), "host-a");
    assert_eq!(b.claim(vm, &request(1)).await.unwrap().epoch, Epoch(2));
    match a.reassert(vm, &request(1)).await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.code, Code::Conflict),
        other => panic!("{other:?}"),
    }
    assert!(b.settle(vm, &request(2)).await.unwrap().settled);
    let ended = serde_json::from_value(rig::event(
        "source",
        1,
        "released",
        json!({ "source_ended": true }),
    ));
    a.event(attempt, &ended.unwrap()).await.unwrap();
    let history = admin.history(&HistoryQuery::default()).await.unwrap();
    assert_eq!(history.last().unwrap().event, "done");
    running.abort();
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let (directory, config) = fleet();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let nowhere = directory.path().join("nowhere/file");
    let spoilt = directory.path().join("spoilt");
    std::fs::write(&spoilt, "nothing of a store").unwrap();
    for (config, named) in [
        (ControllerConfig { listen, ..config.clone() }, listen.to_string()),
        (ControllerConfig { cert: nowhere.clone(), ..config.clone() }, "nowhere/file".into()),
        (ControllerConfig { store: nowhere, ..config.clone() }, "nowhere/file".into()),
        (ControllerConfig { store: spoilt.clone(), ..config }, "put a backup in its place".into()),
    ] {
        let error = run(config).await.unwrap_err().to_string();
        assert!(error.contains(&named), "{error}");
    }
    assert_eq!(std::fs::read(&spoilt).unwrap(), b"nothing of a store");
}
