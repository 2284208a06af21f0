//! Hosts come into the fleet with a token, over real TLS, and keep their certificates.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::body::{CertificateRequest, EnrollRequest, HistoryQuery, TokenRequest};
use api::certs::{self, Authority, Party, Token, Validity};
use api::{Client, ClientConfig, ClientError};
use controller::{ControllerConfig, Life, run};
use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::time::sleep;
use types::{Code, HostId};

struct Fleet {
    dir: TempDir,
    config: ControllerConfig,
}

impl Fleet {
    /// A CA, a controller and an administrator.
    fn new(life: Option<SignedDuration>) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path();
        certs::create_ca(path).unwrap();
        for party in [Party::Controller, Party::Admin("admin".to_owned())] {
            certs::issue(path, &party).unwrap();
        }
        let config = ControllerConfig {
            listen: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
            ca: path.join("ca.pem"),
            cert: path.join("controller.pem"),
            key: path.join("controller.key"),
            store: path.join("store"),
            ca_key: Some(path.join("ca.key")),
            certificate_life: life.map_or_else(Life::default, |life| Life::try_from(life).unwrap()),
        };
        Self { dir, config }
    }

    fn url(&self) -> String {
        format!("https://{}", self.config.listen)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The client of a party whose files are in the fleet's directory.
    fn client(&self, stem: &str) -> Client {
        let (cert, key) = (self.file(&format!("{stem}.pem")), self.file(&format!("{stem}.key")));
        Client::new(ClientConfig { controller: self.url(), ca: self.file("ca.pem"), cert, key })
            .unwrap()
    }

    async fn start(&self) -> (tokio::task::JoinHandle<()>, Client) {
        let config = self.config.clone();
        let running = tokio::spawn(async move { run(config).await.unwrap() });
        let admin = self.client("admin");
        for _ in 0..500 {
            match admin.hosts().await {
                Err(ClientError::Unreachable { .. }) => sleep(Duration::from_millis(10)).await,
                answer => {
                    answer.unwrap();
                    return (running, admin);
                }
            }
        }
        panic!("the controller does not answer");
    }

    /// A stranger who believes in the CA of `token`.
    fn stranger(&self, token: &str) -> Client {
        let token: Token = token.parse().unwrap();
        Client::first_contact(self.url(), &token.fingerprint).unwrap()
    }
}

async fn token(admin: &Client, host: &str, seconds: Option<u64>) -> String {
    let request = TokenRequest { host: host.parse().unwrap(), lifetime_seconds: seconds };
    admin.new_token(&request).await.unwrap().token
}

fn request(token: &str) -> EnrollRequest {
    let request = certs::request(&certs::new_key().unwrap()).unwrap();
    EnrollRequest { token: token.to_owned(), request }
}

fn refused(answer: Result<impl std::fmt::Debug, ClientError>) -> (Code, String) {
    match answer {
        Err(ClientError::Problem(problem)) => (problem.code, problem.detail),
        other => panic!("not a problem: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_makes_one_host_once() {
    let fleet = Fleet::new(None);
    let (running, admin) = fleet.start().await;
    let made = token(&admin, "host-a", None).await;
    let stranger = fleet.stranger(&made);

    // The name in the token is not what the token was made for.
    let renamed = request(&made.replace("host-a", "host-b"));
    let (code, why) = refused(stranger.enroll(&renamed).await);
    assert!(code == Code::TokenRefused && why.contains("another host"), "{why}");
    // What cannot be signed uses nothing up.
    let nonsense = EnrollRequest { request: "nonsense".to_owned(), ..request(&made) };
    assert_eq!(refused(stranger.enroll(&nonsense).await).0, Code::InvalidRequest);

    let key = certs::new_key().unwrap();
    let good = EnrollRequest { token: made.clone(), request: certs::request(&key).unwrap() };
    let first = stranger.enroll(&good).await.unwrap();
    assert_eq!(first.host.as_str(), "host-a");
    // The first answer may have been lost.
    assert_eq!(stranger.enroll(&good).await.unwrap().host, first.host);
    let (code, why) = refused(stranger.enroll(&request(&made)).await);
    assert!(code == Code::TokenRefused && why.contains("used"), "{why}");

    let files = certs::Files { cert: fleet.file("host-a.pem"), key: fleet.file("host-a.key") };
    certs::write_new(&files, &first.certificate, &key).unwrap();
    let host = fleet.client("host-a");
    let renewal = CertificateRequest { request: certs::request(&key).unwrap() };
    assert_eq!(host.renew(&renewal).await.unwrap().host, first.host);
    // A host is no administrator, and nobody is one without a certificate.
    assert_eq!(refused(host.hosts().await).0, Code::NotAllowed);
    assert_eq!(refused(stranger.hosts().await).0, Code::NotAllowed);
    assert_eq!(refused(admin.renew(&renewal).await).0, Code::NotAllowed);

    let told = admin.history(&HistoryQuery::default()).await.unwrap();
    let told: Vec<_> = told.iter().map(|e| (e.actor.as_str(), e.event.as_str())).collect();
    assert_eq!(told, [("admin", "token-made"), ("host-a", "host-enrolled")]);
    running.abort();
}

#[tokio::test]
async fn a_token_is_remembered_as_used_across_a_restart() {
    let fleet = Fleet::new(None);
    let (running, admin) = fleet.start().await;
    let made = token(&admin, "host-a", None).await;
    fleet.stranger(&made).enroll(&request(&made)).await.unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let (running, _) = fleet.start().await;
    assert_eq!(refused(fleet.stranger(&made).enroll(&request(&made)).await).0, Code::TokenRefused);
    running.abort();
}

#[tokio::test]
async fn old_tokens_and_foreign_controllers_are_refused() {
    let fleet = Fleet::new(None);
    let (running, admin) = fleet.start().await;
    let made = token(&admin, "host-a", Some(1)).await;
    sleep(Duration::from_millis(1100)).await;
    let (code, why) = refused(fleet.stranger(&made).enroll(&request(&made)).await);
    assert!(code == Code::TokenRefused && why.contains("too old"), "{why}");
    let unknown = Token::new("host-a".parse().unwrap(), "0".repeat(64)).unwrap().to_string();
    // Before anything is sent.
    match fleet.stranger(&unknown).enroll(&request(&unknown)).await {
        Err(ClientError::Unreachable { why, .. }) => {
            assert!(why.contains("another CA than the token's"), "{why}");
        }
        other => panic!("a stranger's controller was trusted: {other:?}"),
    }
    for seconds in [0, 8 * 24 * 3600] {
        let wrong =
            TokenRequest { host: "host-a".parse().unwrap(), lifetime_seconds: Some(seconds) };
        assert_eq!(refused(admin.new_token(&wrong).await).0, Code::InvalidRequest);
    }
    running.abort();
}

#[tokio::test]
async fn without_the_key_nothing_is_made_and_the_remedy_is_told() {
    let mut fleet = Fleet::new(None);
    fleet.config.ca_key = None;
    let (running, admin) = fleet.start().await;
    let wanted = TokenRequest { host: "host-a".parse().unwrap(), lifetime_seconds: None };
    match admin.new_token(&wanted).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.code, Code::NoAuthority);
            assert!(problem.remedy.unwrap().contains("ca_key"));
        }
        other => panic!("{other:?}"),
    }
    running.abort();
    // A key of somebody else is told at the start.
    fleet.config.ca_key = Some(fleet.file("admin.key"));
    let error = run(fleet.config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("admin.key is not the key of"), "{error}");
}

/// Signs a certificate that is valid for `seconds`.
fn short(fleet: &Fleet, party: &Party, seconds: u64) {
    let files = certs::files(fleet.dir.path(), party);
    let ca = Authority::load(&fleet.file("ca.pem"), &fleet.file("ca.key")).unwrap();
    let key = std::fs::read_to_string(&files.key).unwrap();
    let request = certs::request(&key).unwrap();
    let made = ca.sign(&request, party, Duration::from_secs(seconds)).unwrap();
    certs::replace(&files.cert, made.as_bytes(), 0o644).unwrap();
}

fn end(file: &Path) -> i64 {
    Validity::of(file).unwrap().until
}

#[tokio::test]
async fn the_controller_renews_its_own_and_an_expired_one_is_told() {
    let fleet = Fleet::new(Some(SignedDuration::from_secs(3600)));
    let host = Party::Host("host-a".parse::<HostId>().unwrap());
    certs::issue(fleet.dir.path(), &host).unwrap();
    short(&fleet, &Party::Controller, 2);
    short(&fleet, &host, 2);
    let cert = fleet.file("controller.pem");
    let before = end(&cert);
    let (running, admin) = fleet.start().await;
    let client = fleet.client("host-a");
    let _ = client.attempt_intent("0190a000-0000-7000-8000-000000000001".parse().unwrap()).await;
    sleep(Duration::from_millis(3500)).await;
    // The connection from before is still there, and good for nothing.
    let key = std::fs::read_to_string(fleet.file("host-a.key")).unwrap();
    let renewal = CertificateRequest { request: certs::request(&key).unwrap() };
    let (code, _) = refused(client.renew(&renewal).await);
    assert_eq!(code, Code::CertificateExpired);
    client.reconnect();
    let error = client.renew(&renewal).await.unwrap_err();
    assert!(matches!(error, ClientError::Expired { .. }), "{error}");
    let problem = error.problem();
    assert!(problem.detail.contains("host-a.pem was valid until"), "{}", problem.detail);
    assert!(problem.remedy.unwrap().contains("godwit host enroll"));
    // The controller has a new one, which new connections see.
    assert!(end(&cert) > before + 3000, "{} {before}", end(&cert));
    admin.reconnect();
    admin.hosts().await.unwrap();
    running.abort();
}
