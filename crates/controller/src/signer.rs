//! Makes hosts' certificates, and the controller's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::body::NewCertificate;
use api::certs::{self, Authority, CertError, Party, Validity};
use types::{Code, HostId, Problem};

/// Where there is no key of the CA.
const NO_KEY: &str = "this controller has no ca_key, so it makes no certificates";

/// The CA, if the controller has its key.
#[derive(Debug, Default)]
pub struct Signer {
    authority: Option<Authority>,
    life: Duration,
}

impl Signer {
    /// Signs certificates that are valid for `life`.
    pub fn new(authority: Option<Authority>, life: Duration) -> Self {
        Self { authority, life }
    }

    fn authority(&self) -> Result<&Authority, Problem> {
        self.authority.as_ref().ok_or_else(|| {
            Problem::new(Code::NoAuthority, NO_KEY).remedy(
                "name ca_key in controller.toml, or issue by hand where the key is: \
                 `godwit ca issue` and `godwit ca renew`",
            )
        })
    }

    /// By what hosts know the CA.
    ///
    /// # Errors
    /// `no-authority`.
    pub(crate) fn fingerprint(&self) -> Result<String, Problem> {
        certs::fingerprint(self.authority()?.certificate()).map_err(|e| failed(&e))
    }

    /// Fails early where nothing can be signed.
    ///
    /// # Errors
    /// `no-authority`.
    pub(crate) fn ready(&self) -> Result<(), Problem> {
        self.authority().map(|_| ())
    }

    /// A host's certificate for the key of `request`.
    ///
    /// # Errors
    /// `no-authority`; or the request is none.
    pub(crate) fn sign(&self, host: HostId, request: &str) -> Result<NewCertificate, Problem> {
        let authority = self.authority()?;
        let certificate =
            authority.sign(request, &Party::Host(host.clone()), self.life).map_err(|e| {
                Problem::new(Code::InvalidRequest, format!("the certificate request: {e}"))
            })?;
        Ok(NewCertificate { host, certificate, ca: authority.certificate().to_owned() })
    }
}

fn failed(error: &CertError) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

/// Renews the controller's own certificate for ever, as far as it can.
pub(crate) async fn keep_own(signer: &Signer, cert: PathBuf, key: PathBuf) {
    loop {
        let again = match Validity::of(&cert) {
            Ok(validity) => {
                let now = jiff::Timestamp::now().as_second();
                if validity.due(now) {
                    renew_own(signer, &cert, &key, &validity);
                }
                validity.look_again()
            }
            Err(error) => {
                tracing::warn!(%error, "the own certificate's end is not known");
                Duration::from_secs(60)
            }
        };
        tokio::time::sleep(again).await;
    }
}

fn renew_own(signer: &Signer, cert: &Path, key: &Path, validity: &Validity) {
    let Some(authority) = &signer.authority else {
        let end = validity.end();
        return tracing::warn!(end, "the controller's certificate ends: `godwit ca renew`");
    };
    let made = std::fs::read_to_string(key)
        .map_err(|e| e.to_string())
        .and_then(|key| certs::request(&key).map_err(|e| e.to_string()))
        .and_then(|r| {
            authority.sign(&r, &Party::Controller, signer.life).map_err(|e| e.to_string())
        })
        .and_then(|new| certs::replace(cert, new.as_bytes(), 0o644).map_err(|e| e.to_string()));
    match made {
        Ok(()) => tracing::info!("the controller's certificate is renewed"),
        Err(error) => tracing::error!(error, "the controller's certificate is not renewed"),
    }
}
