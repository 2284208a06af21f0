//! Server and client over real TLS on the loopback device.

mod common;

use std::time::Duration;

use api::body::{HistoryEvent, HistoryQuery, StartRequest};
use api::certs::{self, CertError, Party};
use api::tls::{self, TlsError};
use api::{Client, ClientError, Json, MAX_RESPONSE, Peer, Rejection, path};
use axum::Router;
use axum::extract::{Path, Query};
use axum::http::Method;
use axum::routing::{get, post};
use common::{Server, client, fleet, identity};
use types::{Code, Problem, VmName};

const WAIT: Duration = Duration::from_secs(10);

/// `GET /who` answers the caller's role and name.
fn app() -> Router {
    let who = async |peer: Peer| Json(format!("{:?} {}", peer.role, peer.name));
    let vm = async |Path(vm): Path<VmName>| -> Result<Json<()>, Rejection> {
        Err(Problem::new(Code::VmUnknown, format!("there is no VM {vm}"))
            .remedy("see `godwit vm ls`")
            .into())
    };
    let start = async |Path(_): Path<VmName>, Json(_): Json<StartRequest>| Json(());
    let history = async |Query(query): Query<HistoryQuery>| {
        Json(vec![HistoryEvent {
            seq: query.after.unwrap_or(0) + 1,
            time: "2030-01-01T00:00:00Z".to_owned(),
            vm: query.vm,
            attempt: None,
            actor: "admin".to_owned(),
            event: "asked".to_owned(),
            detail: query.limit.map(|n| n.to_string()),
        }])
    };
    Router::new()
        .route("/who", get(who))
        .route("/huge", get(async || "x".repeat(MAX_RESPONSE + 1)))
        .route("/noise", get(async || "noise"))
        .route(path::VM, get(vm))
        .route(path::VM_START, post(start))
        .route(path::HISTORY, get(history))
}

async fn who(client: &Client) -> Result<String, ClientError> {
    client.request(Method::GET, "/who", None::<&()>, WAIT).await
}

fn unreachable(result: Result<impl std::fmt::Debug, ClientError>) -> String {
    match result {
        Err(ClientError::Unreachable { why, .. }) => why,
        other => panic!("not unreachable: {other:?}"),
    }
}

fn garbled(result: Result<String, ClientError>) -> String {
    match result {
        Err(ClientError::Garbled { why, .. }) => why,
        other => panic!("not garbled: {other:?}"),
    }
}

fn problem(result: Result<impl std::fmt::Debug, ClientError>) -> Problem {
    match result {
        Err(ClientError::Problem(problem)) => problem,
        other => panic!("not a problem: {other:?}"),
    }
}

#[tokio::test]
async fn the_server_sees_who_speaks() {
    let dir = fleet();
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let admin = client(dir.path(), "admin", server.address);
    let host = client(dir.path(), "host-a", server.address);
    assert_eq!(who(&admin).await.unwrap(), "Admin admin");
    assert_eq!(who(&host).await.unwrap(), "Host host-a");
    // Over the connection that was kept, too.
    assert_eq!(who(&admin.clone()).await.unwrap(), "Admin admin");
    server.stop().await;
}

#[tokio::test]
async fn certificates_of_others_are_refused_on_both_sides() {
    let (ours, theirs) = (fleet(), fleet());
    let server = Server::start(ours.path(), "controller", 0, app()).await;
    // A client that trusts our CA, with a certificate of the other CA.
    let mut mixed = identity(theirs.path(), "admin");
    mixed.ca = ours.path().join("ca.pem");
    let stranger = Client::new(api::ClientConfig {
        controller: format!("https://{}", server.address),
        ca: mixed.ca,
        cert: mixed.cert,
        key: mixed.key,
    })
    .unwrap();
    // The server may close before its alert is read, hence no word of it here.
    unreachable(who(&stranger).await);
    let why = unreachable(who(&client(theirs.path(), "admin", server.address)).await);
    assert!(why.contains("UnknownIssuer"), "{why}");
    // A controller's certificate is not for clients.
    unreachable(who(&client(ours.path(), "controller", server.address)).await);
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = fleet();
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(dir.path().join("ca.pem")).unwrap();
    use rustls::pki_types::pem::PemObject;
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(api::CONTROLLER_NAME.try_into().unwrap(), tcp)
        .await
        .unwrap();
    // In TLS 1.3 the refusal arrives after the client's side of the handshake.
    let _ = tls.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let error = tls.read_to_end(&mut answer).await.unwrap_err();
    assert!(answer.is_empty() && error.to_string().contains("CertificateRequired"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn only_the_controllers_name_is_the_controller() {
    let dir = fleet();
    let server = Server::start(dir.path(), "host-a", 0, app()).await;
    let why = unreachable(who(&client(dir.path(), "admin", server.address)).await);
    assert!(why.contains("not valid for name"), "{why}");
    server.stop().await;
}

#[tokio::test]
async fn problems_travel_whole() {
    let dir = fleet();
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let admin = client(dir.path(), "admin", server.address);
    let web01: VmName = "web01".parse().unwrap();
    let unknown = problem(admin.vm(&web01).await);
    assert_eq!(
        unknown,
        Problem::new(Code::VmUnknown, "there is no VM web01").remedy("see `godwit vm ls`")
    );
    let path = path::fill(path::VM_START, &web01);
    let wrong = serde_json::json!({"onn": "host-a"});
    let wrong: Result<(), _> = admin.request(Method::POST, &path, Some(&wrong), WAIT).await;
    let wrong = problem(wrong);
    assert_eq!(wrong.code, Code::InvalidRequest);
    assert!(wrong.detail.contains("onn"), "{wrong}");
    let nowhere: Result<(), _> = admin.request(Method::GET, "/v1/nowhere", None::<&()>, WAIT).await;
    let nowhere = problem(nowhere);
    assert!(nowhere.code == Code::InvalidRequest && nowhere.detail.contains("/v1/nowhere"));
    let method: Result<(), _> = admin.request(Method::PUT, "/who", None::<&()>, WAIT).await;
    assert_eq!(problem(method).code, Code::InvalidRequest);
    server.stop().await;
}

#[tokio::test]
async fn a_history_query_arrives_as_it_was_meant() {
    let dir = fleet();
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let admin = client(dir.path(), "admin", server.address);
    let none = admin.history(&HistoryQuery::default()).await.unwrap();
    assert!(none[0].seq == 1 && none[0].vm.is_none() && none[0].detail.is_none());
    let vm: VmName = "web_0.1".parse().unwrap();
    let query = HistoryQuery { vm: Some(vm.clone()), after: Some(7), limit: Some(3) };
    let some = admin.history(&query).await.unwrap();
    assert!(some[0].seq == 8 && some[0].vm == Some(vm) && some[0].detail.as_deref() == Some("3"));
    server.stop().await;
}

#[tokio::test]
async fn sizes_are_bounded_both_ways() {
    let dir = fleet();
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let admin = client(dir.path(), "admin", server.address);
    let large = "x".repeat(api::MAX_REQUEST);
    let path = path::fill(path::VM_START, &"web01");
    let refused: Result<(), _> = admin.request(Method::POST, &path, Some(&large), WAIT).await;
    assert!(problem(refused).detail.contains("larger than 4 MiB"));
    let huge = admin.request(Method::GET, "/huge", None::<&()>, WAIT).await;
    assert!(garbled(huge).contains("larger than 32 MiB"));
    let noise = admin.request(Method::GET, "/noise", None::<&()>, WAIT).await;
    assert!(garbled(noise).contains("expected"));
    server.stop().await;
}

#[test]
fn files_that_do_not_serve_are_named() {
    let dir = fleet();
    let missing = tls::client_config(&identity(dir.path(), "nobody")).unwrap_err();
    assert!(missing.to_string().contains("nobody.pem"), "{missing}");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let mut files = identity(dir.path(), "admin");
    files.ca = empty;
    let error = tls::server_config(&files).unwrap_err();
    assert!(matches!(&error, TlsError::Content { .. }), "{error}");
    assert!(error.to_string().contains("empty.pem: there is no certificate in it"), "{error}");
    let mut files = identity(dir.path(), "admin");
    files.key = dir.path().join("host-a.key");
    assert!(tls::client_config(&files).unwrap_err().to_string().contains("admin.pem"));
}

#[test]
fn keys_are_private_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = fleet();
    for name in ["ca.key", "controller.key", "host-a.key", "admin.key"] {
        let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before = std::fs::read(dir.path().join("ca.key")).unwrap();
    let exists = |result| matches!(result, Err(CertError::Exists(_)));
    assert!(exists(certs::create_ca(dir.path())));
    assert!(exists(certs::issue(dir.path(), &Party::Controller)));
    // An administrator's files would stand where the host's are.
    assert!(exists(certs::issue(dir.path(), &Party::Admin("host-a".to_owned()))));
    assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), before);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 8, "four parties, two files each");
    for name in ["ca", "controller", "../x", "", "a.b"] {
        let refused = certs::issue(dir.path(), &Party::Admin(name.to_owned()));
        assert!(matches!(refused, Err(CertError::Name { .. })), "{name}");
    }
}

#[test]
fn urls_are_https_to_an_address() {
    let dir = fleet();
    let files = identity(dir.path(), "admin");
    let with = |controller: &str| {
        Client::new(api::ClientConfig {
            controller: controller.to_owned(),
            ca: files.ca.clone(),
            cert: files.cert.clone(),
            key: files.key.clone(),
        })
    };
    for good in ["https://10.77.0.1:7443", "https://controller/", "https://[::1]:7443"] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["", "http://10.0.0.1", "10.0.0.1:7443", "https://", "https://a/b", "https://a?x"] {
        assert!(with(bad).unwrap_err().to_string().contains("https://ADDRESS:PORT"), "{bad}");
    }
}
