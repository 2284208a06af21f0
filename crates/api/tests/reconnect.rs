//! What the client does when the connection it kept is dead.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::tls::server_config;
use api::{ClientError, Json};
use axum::Router;
use axum::http::Method;
use axum::routing::get;
use common::{Server, client, fleet, identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const WAIT: Duration = Duration::from_secs(10);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull";

#[tokio::test]
async fn a_restarted_controller_is_found_again() {
    let dir = fleet();
    let app = || Router::new().route("/", get(async || Json(())));
    let server = Server::start(dir.path(), "controller", 0, app()).await;
    let address = server.address;
    let host = client(dir.path(), "host-a", address);
    let () = host.request(Method::GET, "/", None::<&()>, WAIT).await.unwrap();
    server.stop().await;
    let away: Result<(), _> = host.request(Method::GET, "/", None::<&()>, WAIT).await;
    assert!(matches!(away, Err(ClientError::Unreachable { .. })), "{away:?}");
    let server = Server::start(dir.path(), "controller", address.port(), app()).await;
    let () = host.request(Method::GET, "/", None::<&()>, WAIT).await.unwrap();
    server.stop().await;
}

/// Answers the first request of the first connection, reads the second one and
/// hangs up; answers everything on later connections. Counts requests.
async fn moody(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    requests: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut first = true;
    loop {
        let (tcp, _) = listener.accept().await?;
        let mut tls = acceptor.accept(tcp).await?;
        let mut answered = 0;
        let mut head = Vec::new();
        while let Ok(byte) = tls.read_u8().await {
            head.push(byte);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            head.clear();
            requests.fetch_add(1, Ordering::SeqCst);
            if first && answered == 1 {
                break;
            }
            tls.write_all(ANSWER).await?;
            tls.flush().await?;
            answered += 1;
        }
        first = false;
    }
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    for (method, path, second_time) in [
        (Method::GET, "/v1/vms", true),
        (Method::POST, "/v1/agent/sync", true),
        (Method::POST, "/v1/vms/web01/start", false),
        (Method::DELETE, "/v1/vms/web01", false),
    ] {
        let dir = fleet();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = server_config(&identity(dir.path(), "controller")).unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(moody(listener, TlsAcceptor::from(config), requests.clone()));
        let host = client(dir.path(), "host-a", address);
        let () = host.request(Method::GET, "/", None::<&()>, WAIT).await.unwrap();
        let result: Result<(), _> = host.request(method, path, None::<&()>, WAIT).await;
        assert_eq!(result.is_ok(), second_time, "{path}: {result:?}");
        let expected = if second_time { 3 } else { 2 };
        assert_eq!(requests.load(Ordering::SeqCst), expected, "{path}");
        server.abort();
    }
}

#[tokio::test]
async fn a_silent_controller_is_given_up_in_time() {
    let dir = fleet();
    let app = Router::new().route("/", get(async || std::future::pending::<()>().await));
    let server = Server::start(dir.path(), "controller", 0, app).await;
    let host = client(dir.path(), "host-a", server.address);
    let short = Duration::from_millis(200);
    let silent: Result<(), _> = host.request(Method::GET, "/", None::<&()>, short).await;
    match silent {
        Err(ClientError::Unreachable { why, .. }) => assert_eq!(why, "no answer within 0.2 s"),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}
