//! Connections to the controller, kept for the next request.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certs::Validity;
use crate::tls::{self, Identity};
use crate::{CONTROLLER_NAME, MAX_BACKUP, MAX_RESPONSE, path};

/// For the TCP connection and the handshake together.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections that rest; a long poll and what happens beside it need two or three.
const MAX_IDLE: usize = 4;
/// A connection that rested longer is not used again: the controller ends it
/// after a minute, and a request may cross its end on the way.
const REST: Duration = Duration::from_secs(30);

type Sender = SendRequest<Full<Bytes>>;

/// A complete answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

pub(super) enum SendError {
    /// The own certificate was valid until then.
    Expired {
        file: PathBuf,
        end: String,
    },
    Unreachable(String),
    Garbled(String),
}

/// Where a request failed, which decides whether it may be repeated.
enum Failure {
    /// It never left.
    Unsent(String),
    /// It may have arrived; not a byte of the answer came.
    Unanswered(String),
    /// The answer began.
    Broken(SendError),
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(why) | Failure::Unanswered(why) => Self::Unreachable(why),
            Failure::Broken(error) => error,
        }
    }
}

/// By what a client is known and knows the controller.
pub(super) enum Credentials {
    /// Files, read for each connection, so that renewed ones come into use.
    Files(Identity),
    /// It has no certificate yet.
    None(Arc<ClientConfig>),
}

impl Credentials {
    fn config(&self) -> Result<Arc<ClientConfig>, SendError> {
        let files = match self {
            Self::Files(files) => files,
            Self::None(config) => return Ok(Arc::clone(config)),
        };
        let now = jiff::Timestamp::now().as_second();
        match Validity::of(&files.cert) {
            Ok(validity) if validity.over(now) => {
                Err(SendError::Expired { file: files.cert.clone(), end: validity.end() })
            }
            // What is wrong with the file otherwise, TLS tells.
            _ => tls::client_config(files).map_err(|e| SendError::Unreachable(e.to_string())),
        }
    }
}

/// The connections of a client and its clones.
pub(super) struct Connections {
    url: String,
    host: String,
    port: u16,
    credentials: Credentials,
    idle: Mutex<Vec<(Sender, Instant)>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(url: String, host: String, port: u16, credentials: Credentials) -> Self {
        Self { url, host, port, credentials, idle: Mutex::default() }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// One request and its whole answer. The caller bounds the time.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        path: &str,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, SendError> {
        let name = path::action(path);
        tracing::trace!(target: "point", place = "request", name, when = "before");
        let answer = self.exchange_once(method, path, key, body).await;
        tracing::trace!(target: "point", place = "request", name, when = "after");
        answer
    }

    async fn exchange_once(
        &self,
        method: &Method,
        path: &str,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, SendError> {
        let idempotent =
            method == Method::GET || path.starts_with(path::AGENT_PREFIX) || key.is_some();
        let build = || {
            let request = Request::builder();
            let request = match key {
                Some(key) => request.header("idempotency-key", key),
                None => request,
            };
            request
                .method(method)
                .uri(path)
                .header(header::HOST, CONTROLLER_NAME)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|e| SendError::Garbled(format!("own request: {e}")))
        };
        if let Some(kept) = self.take() {
            match self.send(kept, build()?).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unsent(_)) => {}
                Err(Failure::Unanswered(_)) if idempotent => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let tls = TlsConnector::from(self.credentials.config()?);
        let fresh = self.connect(tls).await.map_err(SendError::Unreachable)?;
        Ok(self.send(fresh, build()?).await?)
    }

    /// A connection that rests and was alive when it was last looked at.
    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < REST);
        idle.pop().map(|(sender, _)| sender)
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    /// Lets go of every connection that rests.
    pub(super) fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn send(
        &self,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        sender.ready().await.map_err(|e| Failure::Unsent(chain(&e)))?;
        let largest = if request.uri().path() == path::BACKUP { MAX_BACKUP } else { MAX_RESPONSE };
        let response = sender.try_send_request(request).await.map_err(|mut e| {
            let unsent = e.take_message().is_some();
            let why = chain(e.error());
            if unsent { Failure::Unsent(why) } else { Failure::Unanswered(why) }
        })?;
        let answer = receive(response, largest).await.map_err(Failure::Broken)?;
        self.keep(sender);
        Ok(answer)
    }

    /// A connection of its own, upgraded to `protocol`; or the answer that is no
    /// upgrade. The caller bounds the time.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        protocol: &str,
    ) -> Result<Result<Upgraded, Answer>, SendError> {
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, CONTROLLER_NAME)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol)
            .body(Full::default())
            .map_err(|e| SendError::Garbled(format!("own request: {e}")))?;
        let away = |e: hyper::Error| SendError::Unreachable(chain(&e));
        let tls = TlsConnector::from(self.credentials.config()?);
        let mut fresh = self.connect(tls).await.map_err(SendError::Unreachable)?;
        let response = fresh.send_request(request).await.map_err(away)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Err(receive(response, MAX_RESPONSE).await?));
        }
        hyper::upgrade::on(response).await.map(Ok).map_err(away)
    }

    async fn connect(&self, tls: TlsConnector) -> Result<Sender, String> {
        let address = (self.host.as_str(), self.port);
        let name = ServerName::try_from(CONTROLLER_NAME).map_err(|e| e.to_string())?;
        let shaken = async {
            let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            tls.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))
        };
        let stream = timeout(CONNECT, shaken)
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))??;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the controller ended");
            }
        });
        Ok(sender)
    }
}

async fn receive(response: Response<Incoming>, largest: usize) -> Result<Answer, SendError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), largest).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            SendError::Garbled(format!("it is larger than {} MiB", largest >> 20))
        } else {
            SendError::Unreachable(format!("the answer broke off: {}", chain(e.as_ref())))
        }
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}

/// An error with its causes, which say more than it does.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {e}");
        cause = e.source();
    }
    text
}
