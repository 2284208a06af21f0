//! Typed client of the controller: one warm connection, time-outs always, answers bounded.

mod connection;
mod methods;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{Code, Problem};

use crate::MAX_REQUEST;
use crate::console;
use crate::server::too_large;
use crate::tls::{self, Identity, TlsError};
use connection::{Answer, Connections, Credentials, SendError};

/// Where the controller is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// `https://address:port`; the port is 7443 where it is absent.
    pub controller: String,
    /// Trust anchor (PEM).
    pub ca: PathBuf,
    /// Own certificate chain (PEM).
    pub cert: PathBuf,
    /// Own private key (PEM).
    pub key: PathBuf,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The URL is not one of the controller's.
    #[error("{given:?} is not a controller's URL: write https://ADDRESS:PORT")]
    Url {
        /// The text, shortened.
        given: String,
    },
    /// A PEM file is missing or wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no TLS here as it is needed.
    #[error("TLS: {0}")]
    NoTls(#[from] rustls::Error),
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller refused it, and says why.
    #[error("{0}")]
    Problem(Problem),
    /// The own certificate is no longer valid; nothing was sent.
    #[error("the certificate {} was valid until {end}", file.display())]
    Expired {
        /// Its file.
        file: PathBuf,
        /// Its end, RFC 3339.
        end: String,
    },
    /// No answer. Whether the controller acted on the request is not known.
    #[error("the controller at {controller} does not answer: {why}")]
    Unreachable {
        /// Its URL.
        controller: String,
        /// What happened on the way.
        why: String,
    },
    /// An answer that is not of this API.
    #[error("the controller at {controller} gave an answer that cannot be read: {why}")]
    Garbled {
        /// Its URL.
        controller: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// The error as users meet it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => problem.clone(),
            Self::Expired { .. } => {
                Problem::new(Code::CertificateExpired, self.to_string()).remedy(expired())
            }
            Self::Unreachable { .. } => Problem::new(Code::ControllerUnreachable, self.to_string())
                .remedy(
                    "check that the controller runs, that GODWIT_CONTROLLER is its address, \
                     and that GODWIT_CERT is of its CA",
                ),
            Self::Garbled { .. } => Problem::new(Code::Internal, self.to_string())
                .remedy("use a godwit of the controller's version"),
        }
    }
}

/// What helps against a certificate that is no longer valid.
pub(crate) fn expired() -> &'static str {
    "a host gets a new one with `godwit host add` and `godwit host enroll`, \
     administrators and the controller with `godwit ca renew`"
}

/// A client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    connections: Arc<Connections>,
}

impl Client {
    /// A client of the controller; connects with the first request.
    ///
    /// # Errors
    /// The URL or a file is wrong.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let (host, port) = address(&config.controller)?;
        let identity = Identity { ca: config.ca, cert: config.cert, key: config.key };
        // Wrong files are told at once; later they are read for each connection.
        tls::client_config(&identity)?;
        Ok(Self::with(config.controller, host, port, Credentials::Files(identity)))
    }

    /// A client without a certificate, for [`Client::enroll`]; it trusts the controller
    /// of the CA with this fingerprint.
    ///
    /// # Errors
    /// The URL is wrong.
    pub fn first_contact(controller: String, fingerprint: &str) -> Result<Self, ConfigError> {
        let (host, port) = address(&controller)?;
        let credentials = Credentials::None(tls::first_contact_config(fingerprint)?);
        Ok(Self::with(controller, host, port, credentials))
    }

    fn with(url: String, host: String, port: u16, credentials: Credentials) -> Self {
        Self { connections: Arc::new(Connections::new(url, host, port, credentials)) }
    }

    /// Lets go of connections that rest: the next request makes a new one, with what
    /// is in the files then.
    pub fn reconnect(&self) {
        self.connections.forget();
    }

    /// Sends a request and reads its answer, all within `timeout`.
    ///
    /// A request that cannot have a second effect (`GET`, and all of the agents')
    /// is repeated once when a connection kept from earlier turns out to be dead.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        self.request_with(method, path, body, None, timeout).await
    }

    /// As [`Self::request`], with an idempotency key, which makes it repeatable.
    async fn request_with<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        key: Option<&str>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let body = match body {
            Some(body) => {
                serde_json::to_vec(body).map_err(|e| self.garbled(format!("own request: {e}")))?
            }
            None => Vec::new(),
        };
        if body.len() > MAX_REQUEST {
            return Err(ClientError::Problem(too_large()));
        }
        let sent = self.connections.exchange(&method, path, key, body.into());
        let answer = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(SendError::Expired { file, end })) => {
                return Err(ClientError::Expired { file, end });
            }
            Ok(Err(SendError::Unreachable(why))) => return Err(self.unreachable(why)),
            Ok(Err(SendError::Garbled(why))) => return Err(self.garbled(why)),
            Err(_) => {
                // The kept ones went the same way.
                self.connections.forget();
                return Err(
                    self.unreachable(format!("no answer within {} s", timeout.as_secs_f32()))
                );
            }
        };
        self.read(&answer)
    }

    /// Upgrades a connection of its own to a console's protocol; `None` where the
    /// controller has nothing for it now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<Option<console::Stream>, ClientError> {
        let sent = self.connections.upgrade(path, console::PROTOCOL);
        match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(Ok(upgraded))) => Ok(Some(TokioIo::new(upgraded))),
            Ok(Ok(Err(answer))) => self.read::<Option<()>>(&answer).map(|_| None),
            Ok(Err(SendError::Expired { file, end })) => Err(ClientError::Expired { file, end }),
            Ok(Err(SendError::Unreachable(why))) => Err(self.unreachable(why)),
            Ok(Err(SendError::Garbled(why))) => Err(self.garbled(why)),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", timeout.as_secs()))),
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        if answer.status.is_success() {
            let text: &[u8] = if answer.body.is_empty() { b"null" } else { &answer.body };
            return serde_json::from_slice(text).map_err(|e| self.garbled(e.to_string()));
        }
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => Err(ClientError::Problem(problem)),
            Err(_) => Err(self.garbled(format!("status {} without a problem", answer.status))),
        }
    }

    fn unreachable(&self, why: String) -> ClientError {
        ClientError::Unreachable { controller: self.connections.url().to_owned(), why }
    }

    fn garbled(&self, why: String) -> ClientError {
        ClientError::Garbled { controller: self.connections.url().to_owned(), why }
    }
}

/// Host and port of a controller's URL.
fn address(controller: &str) -> Result<(String, u16), ConfigError> {
    let bad = || ConfigError::Url { given: controller.chars().take(200).collect() };
    let uri: Uri = controller.parse().map_err(|_| bad())?;
    let bare = uri.path_and_query().is_none_or(|p| p.as_str() == "/");
    let (Some("https"), Some(host), true) = (uri.scheme_str(), uri.host(), bare) else {
        return Err(bad());
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, uri.port_u16().unwrap_or(7443)))
}
