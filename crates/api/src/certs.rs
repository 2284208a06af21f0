//! A fleet's certificates: one CA, one leaf for each party, as PEM files in one directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use types::HostId;

/// Largest file read, in bytes.
const MAX_PEM: u64 = 1 << 20;
const CA_YEARS: i32 = 10;
const LEAF_YEARS: i32 = 1;

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
    /// The clock is out of the range of dates.
    #[error("the system clock is out of range: {0}")]
    Clock(#[from] jiff::Error),
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
    make_dir(dir)?;
    refuse_existing(&made)?;
    let key = KeyPair::generate()?;
    let mut params = params(&ca_name(&key), CA_YEARS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write_pair(&made, &certificate.pem(), &key.serialize_pem())?;
    Ok(made)
}

/// Makes the certificate and key of a party with the CA in `dir`, valid for a year.
///
/// # Errors
/// There is no CA in `dir`, the party has files there, or they cannot be written.
pub fn issue(dir: &Path, party: &Party) -> Result<Files, CertError> {
    party.check()?;
    let made = files(dir, party);
    refuse_existing(&made)?;
    let issuer = issuer(dir)?;
    let key = KeyPair::generate()?;
    let mut params = params(party.stem(), LEAF_YEARS)?;
    params.subject_alt_names = CertificateParams::new(vec![party.dns_name()])?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = party.usages();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    write_pair(&made, &certificate.pem(), &key.serialize_pem())?;
    Ok(made)
}

/// A name that no other CA has: two fleets' certificates, mixed up, are then told
/// apart by their issuer instead of by a signature that does not fit.
fn ca_name(key: &KeyPair) -> String {
    let id = CertificateParams::default().key_identifier(key);
    let id: String = id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("Godwit CA {id}")
}

fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertError> {
    let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let pair =
        KeyPair::from_pem(&read(&key)?).map_err(|source| CertError::Ca { path: key, source })?;
    Issuer::from_ca_cert_pem(&read(&cert)?, pair)
        .map_err(|source| CertError::Ca { path: cert, source })
}

fn params(common_name: &str, years: i32) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let today = Offset::UTC.to_datetime(Timestamp::now()).date();
    let midnight = |date: Date| {
        // Months and days are small and positive.
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // A day back: clocks of hosts differ.
    params.not_before = midnight(today.checked_sub(Span::new().days(1))?);
    params.not_after = midnight(today.checked_add(Span::new().years(years))?);
    Ok(params)
}

fn make_dir(dir: &Path) -> Result<(), CertError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

fn refuse_existing(files: &Files) -> Result<(), CertError> {
    for path in [&files.key, &files.cert] {
        if path.symlink_metadata().is_ok() {
            return Err(CertError::Exists(path.clone()));
        }
    }
    Ok(())
}

/// The certificate last: where it stands, its key stands too.
fn write_pair(files: &Files, cert: &str, key: &str) -> Result<(), CertError> {
    write_new(&files.key, key.as_bytes(), 0o600)?;
    write_new(&files.cert, cert.as_bytes(), 0o644)
}

/// Writes a file that appears whole or not at all and replaces nothing.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let result = write_and_link(&temporary, path, bytes, mode);
    // Nothing to do about a left-over that cannot be removed; it replaces nothing.
    let _ = fs::remove_file(&temporary);
    result
}

fn write_and_link(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)
        .map_err(at(temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(temporary))?;
    // A hard link, unlike a rename, fails where the name is taken.
    fs::hard_link(temporary, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertError::Exists(path.to_owned()),
        _ => CertError::File { path: path.to_owned(), source },
    })
}

fn read(path: &Path) -> Result<String, CertError> {
    let mut text = String::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(MAX_PEM).read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

fn at(path: &Path) -> impl Fn(io::Error) -> CertError {
    let path = path.to_owned();
    move |source| CertError::File { path: path.clone(), source }
}
