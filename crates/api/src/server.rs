//! HTTPS server: accepts parties with certificates and hands their requests to a router.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;
use types::{Code, Problem};

use crate::body::ProblemDetails;
use crate::certs::Validity;
use crate::client::expired;
use crate::{MAX_REQUEST, Peer, Role, path};

/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Those of them that bear no certificate; more are turned away.
const MAX_STRANGERS: usize = 16;
/// How long one that bears no certificate may last.
const STRANGER: Duration = Duration::from_secs(20);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and for a connection to rest between two requests.
const HEAD: Duration = Duration::from_secs(60);
/// Largest head of a request in bytes.
const MAX_BUFFER: usize = 64 << 10;
/// For a request's body.
const BODY: Duration = Duration::from_secs(30);
/// For requests under way when the server is told to end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves `app` until `shutdown`, then gives open requests two seconds. Each
/// request bears its [`Peer`] as an extension.
///
/// # Errors
/// The listener's address cannot be told.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving");
    let door = Door {
        acceptor: TlsAcceptor::from(tls),
        app: app.fallback(unknown_path).method_not_allowed_fallback(unknown_path),
        strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
    };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (door, ended) = (door.clone(), ended.clone());
        connections.spawn(async move {
            door.converse(stream, ended).await;
            drop(slot);
        });
    }
    drop(listener);
    // Every receiver may be gone already; then nobody has to be told.
    let _ = ending.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        tracing::info!("requests were cut off at the end");
    }
    connections.shutdown().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // Out of descriptors, or a peer that left: both pass with time.
            tracing::warn!(%error, "a connection was not accepted");
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    app: Router,
    strangers: Arc<Semaphore>,
}

impl Door {
    /// One connection, from the handshake to its end.
    async fn converse(self, stream: TcpStream, ended: watch::Receiver<bool>) {
        let from = stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
        let _ = stream.set_nodelay(true);
        let tls = match timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::warn!(%from, %error, "handshake failed"),
            Err(_) => return tracing::warn!(%from, "handshake took longer than 10 s"),
        };
        let certificates = tls.get_ref().1.peer_certificates();
        let Some(certificate) = certificates.and_then(|c| c.first()) else {
            let Ok(_slot) = self.strangers.clone().try_acquire_owned() else {
                return tracing::warn!(%from, "too many without a certificate at once");
            };
            let served = serve_http(tls, Who::Stranger, self.app, &from, ended);
            if timeout(STRANGER, served).await.is_err() {
                tracing::warn!(%from, "one without a certificate was cut off after 20 s");
            }
            return;
        };
        let who = match (Peer::of(certificate), Validity::of_der(certificate)) {
            (Ok(peer), Some(validity)) => Who::Party(peer, validity),
            (Err(error), _) => return tracing::warn!(%from, %error, "not a party"),
            (_, None) => return tracing::warn!(%from, "the certificate's time cannot be read"),
        };
        serve_http(tls, who, self.app, &from, ended).await;
    }
}

/// Whose requests arrive on a connection.
#[derive(Debug, Clone)]
enum Who {
    /// A party; its certificate ends one day, also in the middle of a connection.
    Party(Peer, Validity),
    /// Somebody without a certificate.
    Stranger,
}

impl Who {
    /// Lets a request through, marked with who speaks, or not.
    fn admit(&self, request: &mut Request) -> Result<(), Problem> {
        match self {
            Self::Party(peer, validity) => {
                if validity.over(jiff::Timestamp::now().as_second()) {
                    let detail = format!(
                        "the certificate of {} was valid until {}",
                        peer.name,
                        validity.end()
                    );
                    return Err(Problem::new(Code::CertificateExpired, detail).remedy(expired()));
                }
                request.extensions_mut().insert(peer.clone());
                Ok(())
            }
            Self::Stranger if request.uri().path() == path::ENROLL => {
                let nobody = Peer { role: Role::Stranger, name: "stranger".to_owned() };
                request.extensions_mut().insert(nobody);
                Ok(())
            }
            Self::Stranger => {
                Err(Problem::new(Code::NotAllowed, "the connection bears no certificate")
                    .remedy("use an administrator's certificate (GODWIT_CERT and GODWIT_KEY)"))
            }
        }
    }
}

async fn serve_http(
    tls: TlsStream<TcpStream>,
    who: Who,
    app: Router,
    from: &str,
    mut ended: watch::Receiver<bool>,
) {
    let hangup = Hangup::default();
    let hung_up = Arc::clone(&hangup.0);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let admitted = who.admit(&mut request);
        request.extensions_mut().insert(hangup.clone());
        let app = app.clone();
        async move {
            match admitted {
                Ok(()) => app.oneshot(request).await.map_err(|never: Infallible| match never {}),
                Err(problem) => Ok(Rejection(problem).into_response()),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = hung_up.notified() => return tracing::info!(%from, "connection cut: it reads too slowly"),
        () = async { drop(ended.wait_for(|end| *end).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%from, %error, "connection ended");
    }
}

/// Cuts the connection of the request that bears it as an extension: the only way
/// to be rid of a reader that does not read.
#[derive(Debug, Clone, Default)]
pub struct Hangup(Arc<Notify>);

impl Hangup {
    /// Cuts it.
    pub fn cut(&self) {
        self.0.notify_one();
    }
}

async fn unknown_path(request: Request) -> Rejection {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::new(
        Code::InvalidRequest,
        format!("there is no {} {path} in this API", request.method()),
    )
    .remedy("use a godwit of the controller's version")
    .into()
}

/// A problem as a response: `application/problem+json` with its code's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub Problem);

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, "application/problem+json", &ProblemDetails::from(self.0))
    }
}

/// A JSON body. As an argument of a handler it is at most
/// [`MAX_REQUEST`](crate::MAX_REQUEST) bytes and arrives within 30 s; an empty
/// body reads as `{}`. As an answer its status is 200.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, _: &S) -> Result<Self, Rejection> {
        let bytes = read_body(request.into_body()).await?;
        Ok(Self(parse_body(&bytes)?))
    }
}

/// A request's body: at most [`MAX_REQUEST`](crate::MAX_REQUEST) bytes, within 30 s.
///
/// # Errors
/// `invalid-request`: it is larger, slower or broken off.
pub async fn read_body(body: Body) -> Result<Bytes, Problem> {
    let body = Limited::new(body, MAX_REQUEST);
    let collected = timeout(BODY, body.collect())
        .await
        .map_err(|_| invalid("the request's body did not arrive within 30 s"))?;
    let whole = collected.map_err(|e| {
        if e.is::<LengthLimitError>() {
            return too_large();
        }
        invalid(format!("the request's body cannot be read: {e}"))
    })?;
    Ok(whole.to_bytes())
}

/// Reads a body as JSON; an empty one as `{}`.
///
/// # Errors
/// `invalid-request`, with the place and the field that are wrong.
pub fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let field = match e.path().to_string() {
            path if path == "." => String::new(),
            path => format!(" {}:", path.chars().take(200).collect::<String>()),
        };
        invalid(format!("the request's body:{field} {}", shortened(&e.inner().to_string())))
    })?;
    reader.end().map_err(|e| invalid(format!("the request's body: {e}")))?;
    Ok(value)
}

/// A text that may quote what a peer sent, within bounds; its end tells the place.
fn shortened(text: &str) -> String {
    const PART: usize = 300;
    let count = text.chars().count();
    if count <= 2 * PART {
        return text.to_owned();
    }
    let start: String = text.chars().take(PART).collect();
    let end: String = text.chars().skip(count - PART).collect();
    format!("{start} … {end}")
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, "application/json", &self.0)
    }
}

/// The problem of a request that is too large.
pub(crate) fn too_large() -> Problem {
    Problem::new(
        Code::InvalidRequest,
        format!("the request's body is larger than {} MiB", MAX_REQUEST >> 20),
    )
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

fn json(status: StatusCode, kind: &'static str, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let kind = HeaderValue::from_static(kind);
            (status, [(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_only_up_to_the_limit() {
        let read = async |length: usize| {
            let body = Body::from(format!("\"{}\"", "x".repeat(length - 2)));
            Json::<String>::from_request(Request::new(body), &()).await
        };
        assert!(read(MAX_REQUEST).await.is_ok());
        assert_eq!(read(MAX_REQUEST + 1).await.unwrap_err().0, too_large());
    }

    #[tokio::test]
    async fn an_empty_body_is_an_empty_object() {
        #[derive(serde::Deserialize)]
        struct Empty {}
        let Json(Empty {}) = Json::from_request(Request::new(Body::empty()), &()).await.unwrap();
    }

    #[test]
    fn a_rejection_bears_status_and_kind() {
        let response = Rejection(Problem::new(Code::TooLate, "too late")).into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
