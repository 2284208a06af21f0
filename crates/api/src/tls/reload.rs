//! A server's certificate that is renewed while the server runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Identity, TlsError, chain, content, key, provider};

/// Looks at the file's time with each handshake.
#[derive(Debug)]
pub(super) struct Reloading {
    files: Identity,
    current: Mutex<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    written: Option<SystemTime>,
    key: Arc<CertifiedKey>,
}

impl Reloading {
    pub(super) fn new(files: Identity) -> Result<Self, TlsError> {
        let current = Mutex::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// What is in the files now; what was, where they cannot be read.
    fn newest(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if written(&self.files) != current.written {
            match read(&self.files) {
                Ok(new) => *current = new,
                Err(error) => tracing::warn!(%error, "the former certificate stays in use"),
            }
        }
        Arc::clone(&current.key)
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }
}

fn written(files: &Identity) -> Option<SystemTime> {
    files.cert.metadata().and_then(|m| m.modified()).ok()
}

fn read(files: &Identity) -> Result<Current, TlsError> {
    let written = written(files);
    let mut certificates = chain(&files.cert)?;
    certificates.extend(chain(&files.ca)?);
    let key = CertifiedKey::from_der(certificates, key(&files.key)?, &provider())
        .map_err(|e| content(&files.cert, &e))?;
    Ok(Current { written, key: Arc::new(key) })
}
