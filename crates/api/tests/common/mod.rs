//! A fleet's certificates in a directory of their own, and a server with them.
#![allow(clippy::unwrap_used)] // every function here is a test's

use std::net::SocketAddr;
use std::path::Path;

use api::certs::{self, Party};
use api::tls::{self, Identity};
use api::{Client, ClientConfig};
use axum::Router;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A CA with a controller, `host-a` and `admin`.
pub(crate) fn fleet() -> TempDir {
    let dir = TempDir::new().unwrap();
    certs::create_ca(dir.path()).unwrap();
    for party in [
        Party::Controller,
        Party::Host("host-a".parse().unwrap()),
        Party::Admin("admin".to_owned()),
    ] {
        certs::issue(dir.path(), &party).unwrap();
    }
    dir
}

/// The files of the party whose files begin with `stem`.
pub(crate) fn identity(dir: &Path, stem: &str) -> Identity {
    Identity {
        ca: dir.join("ca.pem"),
        cert: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
    }
}

/// A client of the server at `address`, with the certificate of `stem`.
pub(crate) fn client(dir: &Path, stem: &str, address: SocketAddr) -> Client {
    let Identity { ca, cert, key } = identity(dir, stem);
    Client::new(ClientConfig { controller: format!("https://{address}"), ca, cert, key }).unwrap()
}

/// A server that runs until it is stopped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Serves `app` with the certificate of `stem`; port 0 is any port.
    pub(crate) async fn start(dir: &Path, stem: &str, port: u16, app: Router) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls::server_config(&identity(dir, stem)).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(api::serve(listener, config, app, async {
            // A dropped sender ends the server just as well.
            let _ = stopped.await;
        }));
        Self { address, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}
