//! A fleet's certificates: one CA, one leaf for each party, as PEM files in one directory.

mod authority;
mod files;
mod token;
mod validity;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use types::HostId;

pub(crate) use authority::fingerprint_of;
pub use authority::{Authority, fingerprint};
pub use files::replace;
pub use token::{Token, TokenError};
pub use validity::Validity;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a CA is valid.
const CA_LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);
/// How long the certificates are valid that are issued by hand.
const LEAF_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Somebody who gets a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// The controller.
    Controller,
    /// A host: its agent and its carriers.
    Host(HostId),
    /// An administrator; the name follows the rules of a host's.
    Admin(String),
}

/// Where a party's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificate chain, `<name>.pem`.
    pub cert: PathBuf,
    /// Private key, `<name>.key`, mode 0600.
    pub key: PathBuf,
}

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file stands there already; it is never overwritten.
    #[error("{} exists and is never overwritten", .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA's files are not a CA's.
    #[error("{}: {source}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A CA's two files are of two CAs.
    #[error("{} is not the key of {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The name is not a party's, or its files would stand in the way of others.
    #[error("{given:?} cannot be a party's name: {rule}")]
    Name {
        /// The name, shortened.
        given: String,
        /// What it has to be.
        rule: String,
    },
    /// The certificate could not be made.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was read as a certificate is none.
    #[error("{0} cannot be read as a certificate")]
    Unreadable(String),
}

impl Party {
    /// Stem of its files.
    fn stem(&self) -> &str {
        match self {
            Self::Controller => "controller",
            Self::Host(host) => host.as_str(),
            Self::Admin(name) => name,
        }
    }

    /// The DNS name that its certificate bears.
    fn dns_name(&self) -> String {
        match self {
            Self::Controller => crate::CONTROLLER_NAME.to_owned(),
            Self::Host(host) => crate::host_name(host),
            Self::Admin(name) => format!("{name}.admin.godwit"),
        }
    }

    fn usages(&self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::Controller => vec![ServerAuth],
            // Carriers meet each other in both directions.
            Self::Host(_) => vec![ServerAuth, ClientAuth],
            Self::Admin(_) => vec![ClientAuth],
        }
    }

    fn check(&self) -> Result<(), CertError> {
        let bad = |rule: String| {
            let given = self.stem().chars().take(80).collect();
            Err(CertError::Name { given, rule })
        };
        if let Self::Admin(name) = self
            && let Err(e) = name.parse::<HostId>()
        {
            return bad(e.to_string());
        }
        if !matches!(self, Self::Controller) && ["ca", "controller"].contains(&self.stem()) {
            return bad("its files would be the CA's or the controller's".to_owned());
        }
        Ok(())
    }
}

/// Where the files of a party are in `dir`, whether they exist or not.
pub fn files(dir: &Path, party: &Party) -> Files {
    Files {
        cert: dir.join(format!("{}.pem", party.stem())),
        key: dir.join(format!("{}.key", party.stem())),
    }
}

/// Makes the CA in `dir` (created with mode 0700 where it is missing): `ca.pem`
/// and `ca.key`, valid for ten years.
///
/// # Errors
/// A CA exists there, or the files cannot be written.
pub fn create_ca(dir: &Path) -> Result<Files, CertError> {
    let made = Files { cert: dir.join("ca.pem"), key: dir.join("ca.key") };
    files::make_dir(dir)?;
    files::refuse_existing(&made)?;
    let key = KeyPair::generate()?;
    let mut params = authority::params(&authority::name(&key), CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    files::write_pair(&made, &certificate.pem(), &key.serialize_pem())?;
    Ok(made)
}

/// Makes the certificate and key of a party with the CA in `dir`, valid for a year.
///
/// # Errors
/// There is no CA in `dir`, the party has files there, or they cannot be written.
pub fn issue(dir: &Path, party: &Party) -> Result<Files, CertError> {
    party.check()?;
    let made = files(dir, party);
    files::refuse_existing(&made)?;
    let authority = Authority::load(&dir.join("ca.pem"), &dir.join("ca.key"))?;
    let key = new_key()?;
    let certificate = authority.sign(&request(&key)?, party, LEAF_LIFE)?;
    files::write_pair(&made, &certificate, &key)?;
    Ok(made)
}

/// Makes a party's certificate in `dir` anew, valid for a year, for the key that
/// it has.
///
/// # Errors
/// There is no CA in `dir` or no key of the party, or the file cannot be written.
pub fn renew(dir: &Path, party: &Party) -> Result<Files, CertError> {
    party.check()?;
    let made = files(dir, party);
    let authority = Authority::load(&dir.join("ca.pem"), &dir.join("ca.key"))?;
    let certificate = authority.sign(&request(&files::read(&made.key)?)?, party, LEAF_LIFE)?;
    replace(&made.cert, certificate.as_bytes(), 0o644)?;
    Ok(made)
}

/// A new private key (PEM).
///
/// # Errors
/// The system gives no random numbers.
pub fn new_key() -> Result<String, CertError> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// The request (PEM) that a certificate be made for a private key (PEM). It names
/// nobody: for whom the certificate is, its signer knows from elsewhere.
///
/// # Errors
/// It is not a private key.
pub fn request(key: &str) -> Result<String, CertError> {
    let key = KeyPair::from_pem(key)?;
    Ok(rcgen::CertificateParams::default().serialize_request(&key)?.pem()?)
}

/// Whether a text is a request (PEM) that its key has signed.
///
/// # Errors
/// It is not.
pub fn check_request(request: &str) -> Result<(), CertError> {
    rcgen::CertificateSigningRequestParams::from_pem(request)?;
    Ok(())
}

/// Puts a certificate and a private key where there are none yet.
///
/// # Errors
/// There are, or they cannot be written.
pub fn write_new(made: &Files, cert: &str, key: &str) -> Result<(), CertError> {
    files::refuse_existing(made)?;
    files::write_pair(made, cert, key)
}
