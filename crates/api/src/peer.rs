//! Who speaks: the role and name that a client certificate bears.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use types::{Code, HostId, Problem};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Rejection;

/// What a certificate entitles to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The controller.
    Controller,
    /// A host's agent and its carriers.
    Host,
    /// An administrator.
    Admin,
    /// Somebody without a certificate.
    Stranger,
}

/// The other end of a connection, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its role.
    pub role: Role,
    /// Its name within the role: the host's or the administrator's.
    pub name: String,
}

/// Why a certificate names no party.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not an X.509 certificate that can be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Not exactly one DNS name of the known forms.
    #[error(
        "the certificate's subject alternative names ({0:?}) are not exactly one of \
         NAME.host.godwit, NAME.admin.godwit and controller.control.godwit"
    )]
    NoParty(Vec<String>),
}

impl Peer {
    /// Reads role and name from the one DNS name of a certificate that the TLS
    /// layer has verified.
    ///
    /// # Errors
    /// The certificate is not a party's.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| PeerError::Unreadable)?;
        let extension = parsed.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
        let names: Vec<String> =
            extension.map(|e| e.value.general_names.iter().map(text).collect()).unwrap_or_default();
        match names.as_slice() {
            [name] => Self::from_name(name).ok_or_else(|| PeerError::NoParty(names.clone())),
            _ => Err(PeerError::NoParty(names)),
        }
    }

    /// Reads role and name from the first certificate of a PEM file.
    ///
    /// # Errors
    /// There is none, or it is not a party's.
    pub fn of_file(path: &std::path::Path) -> Result<Self, PeerError> {
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_file(path).map_err(|_| PeerError::Unreadable)?;
        Self::of(&certificate)
    }

    /// Reads a DNS name; `None` where it is not a party's.
    fn from_name(dns: &str) -> Option<Self> {
        if dns == crate::CONTROLLER_NAME {
            return Some(Self { role: Role::Controller, name: "controller".to_owned() });
        }
        let (name, role) = [(".host.godwit", Role::Host), (".admin.godwit", Role::Admin)]
            .into_iter()
            .find_map(|(suffix, role)| Some((dns.strip_suffix(suffix)?, role)))?;
        name.parse::<HostId>().ok()?;
        Some(Self { role, name: name.to_owned() })
    }

    /// The host that speaks.
    ///
    /// # Errors
    /// `not-allowed` for anyone but a host.
    pub fn host(&self) -> Result<HostId, Problem> {
        let denied = || {
            Problem::new(Code::NotAllowed, format!("{} is not a host", self.name))
                .remedy("only agents use this path, with their host's certificate")
        };
        if self.role != Role::Host {
            return Err(denied());
        }
        self.name.parse().map_err(|_| denied())
    }

    /// The administrator's name.
    ///
    /// # Errors
    /// `not-allowed` for anyone but an administrator.
    pub fn admin(&self) -> Result<&str, Problem> {
        if self.role == Role::Admin {
            return Ok(&self.name);
        }
        Err(Problem::new(Code::NotAllowed, format!("{} is not an administrator", self.name))
            .remedy("use an administrator's certificate (GODWIT_CERT and GODWIT_KEY)"))
    }
}

fn text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(dns) => (*dns).chars().take(253).collect(),
        other => other.to_string().chars().take(253).collect(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Problem::new(Code::NotAllowed, "the connection bears no certificate").into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_forms_are_parties() {
        let peer = |role, name: &str| Some(Peer { role, name: name.to_owned() });
        for (dns, expected) in [
            ("controller.control.godwit", peer(Role::Controller, "controller")),
            ("host-a.host.godwit", peer(Role::Host, "host-a")),
            ("admin.admin.godwit", peer(Role::Admin, "admin")),
            ("other.control.godwit", None),
            (".host.godwit", None),
            ("a.b.host.godwit", None),
            ("*.host.godwit", None),
            ("Host-A.host.godwit", None),
            ("host-a.host.godwit.example.org", None),
            ("", None),
        ] {
            assert_eq!(Peer::from_name(dns), expected, "{dns}");
        }
    }

    #[test]
    fn a_role_opens_only_its_own_paths() {
        let host = Peer { role: Role::Host, name: "host-a".to_owned() };
        let admin = Peer { role: Role::Admin, name: "admin".to_owned() };
        assert_eq!(host.host().unwrap().as_str(), "host-a");
        assert_eq!(host.admin().unwrap_err().code, Code::NotAllowed);
        assert_eq!(admin.admin().unwrap(), "admin");
        assert_eq!(admin.host().unwrap_err().code, Code::NotAllowed);
    }
}
