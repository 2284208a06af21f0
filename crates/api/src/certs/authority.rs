//! The CA at work: signs what it is asked for, in the name that it is told.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use ring::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertError, DAY, Party, files};

/// A CA: its certificate and its private key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads a CA's files (PEM).
    ///
    /// # Errors
    /// They cannot be read, or are not a CA's.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, CertError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CertError::Ca { path, source }
        };
        let pair = KeyPair::from_pem(&files::read(key)?).map_err(at(key))?;
        let certificate = files::read(cert)?;
        if public_key(&certificate).as_deref() != Some(&pair.subject_public_key_info()) {
            return Err(CertError::Mismatch { cert: cert.to_owned(), key: key.to_owned() });
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(at(cert))?;
        Ok(Self { issuer, certificate })
    }

    /// Its certificate (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The certificate (PEM) of a party, for the key that `request` (PEM) proves to
    /// have, valid for `life` from now. Everything else the request says is ignored.
    ///
    /// # Errors
    /// The request is none, or its signature is wrong.
    pub fn sign(&self, request: &str, party: &Party, life: Duration) -> Result<String, CertError> {
        party.check()?;
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        let mut params = params(party.stem(), life)?;
        params.subject_alt_names =
            CertificateParams::new(vec![party.dns_name()])?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = party.usages();
        params.use_authority_key_identifier_extension = true;
        request.params = params;
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

/// The public key in a certificate (DER); `None` where it is no certificate.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// A name that no other CA has: two fleets' certificates, mixed up, are then told
/// apart by their issuer instead of by a signature that does not fit.
pub(super) fn name(key: &KeyPair) -> String {
    let id = CertificateParams::default().key_identifier(key);
    let id: String = id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("Godwit CA {id}")
}

pub(super) fn params(common_name: &str, life: Duration) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now = SystemTime::now();
    // A day back: clocks of hosts differ.
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
    Ok(params)
}

/// The SHA-256 of the first certificate in a PEM text, as `openssl x509
/// -fingerprint -sha256` shows it, without the colons.
///
/// # Errors
/// There is none in it.
pub fn fingerprint(pem: &str) -> Result<String, CertError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| CertError::Unreadable(e.to_string()))?;
    Ok(fingerprint_of(&certificate))
}

/// The same of a certificate that is not in PEM.
pub(crate) fn fingerprint_of(certificate: &CertificateDer<'_>) -> String {
    super::token::hex(digest::digest(&digest::SHA256, certificate).as_ref())
}
