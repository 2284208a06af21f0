//! PEM files become TLS configurations: TLS 1.3 only, both sides with certificates.

mod first;
mod reload;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version::TLS13};

/// Largest PEM file in bytes.
const MAX_PEM: u64 = 1 << 20;

/// The three PEM files of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Trust anchor.
    pub ca: PathBuf,
    /// Own certificate chain.
    pub cert: PathBuf,
    /// Own private key.
    pub key: PathBuf,
}

/// Why files did not become a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Configuration of a server that demands a client certificate of the CA.
///
/// # Errors
/// A file is missing or wrong; the error names it.
pub fn server_config(files: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&files.ca)?),
        Arc::clone(&provider),
    )
    .build()
    .map_err(|e| content(&files.ca, &e))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| content(&files.cert, &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|e| content(&files.cert, &e))?;
    Ok(Arc::new(config))
}

/// Configuration of a client that shows its certificate.
///
/// # Errors
/// A file is missing or wrong; the error names it.
pub fn client_config(files: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| content(&files.cert, &e))?
        .with_root_certificates(roots(&files.ca)?)
        .with_client_auth_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|e| content(&files.cert, &e))?;
    Ok(Arc::new(config))
}

/// Configuration of the controller's server: it demands nothing of strangers, who
/// have no certificate yet, and refuses every certificate that is not of the CA.
/// Its own certificate is read anew whenever its file changes, and goes together
/// with the CA's, so that strangers can compare that with what they were told.
///
/// # Errors
/// A file is missing or wrong; the error names it.
pub fn controller_config(files: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&files.ca)?),
        Arc::clone(&provider),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|e| content(&files.ca, &e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| content(&files.cert, &e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(reload::Reloading::new(files.clone())?));
    // A resumed session would outlive the certificate that it began with.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Configuration of a client without a certificate that trusts whoever proves to
/// be the controller of the CA with this fingerprint.
///
/// # Errors
/// TLS 1.3 is not to be had.
pub fn first_contact_config(fingerprint: &str) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = first::FirstContact::new(fingerprint.to_owned(), provider());
    Ok(Arc::new(
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
    ))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in chain(path)? {
        store.add(certificate).map_err(|e| content(path, &e))?;
    }
    Ok(store)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(path, &e))?;
    if chain.is_empty() {
        return Err(content(path, &"there is no certificate in it"));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| content(path, &format!("there is no usable private key in it ({e})")))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut pem = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PEM + 1).read_to_end(&mut pem).map_err(failed)?;
    if pem.len() as u64 > MAX_PEM {
        return Err(content(path, &"it is larger than 1 MiB"));
    }
    Ok(pem)
}

fn content(path: &Path, problem: &impl ToString) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.to_string() }
}
