//! The controller's configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::certs::Authority;
use serde::Deserialize;

use crate::{ControllerError, Signer};

/// How long certificates are valid where nothing is said: thirty days.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(87_600 * 3600);

/// How long certificates are valid: ten seconds to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "jiff::SignedDuration")]
pub struct Life(Duration);

impl Default for Life {
    fn default() -> Self {
        Self(LIFE)
    }
}

impl TryFrom<jiff::SignedDuration> for Life {
    type Error = &'static str;

    fn try_from(life: jiff::SignedDuration) -> Result<Self, Self::Error> {
        let life = Duration::try_from(life).unwrap_or_default();
        if (SHORTEST..=LONGEST).contains(&life) {
            Ok(Self(life))
        } else {
            Err("must be 10s to 87600h")
        }
    }
}

/// What `controller.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Trust anchor (PEM).
    pub ca: PathBuf,
    /// Own certificate chain (PEM).
    pub cert: PathBuf,
    /// Own private key (PEM).
    pub key: PathBuf,
    /// The CA's private key (PEM), where the controller is to make certificates.
    #[serde(default)]
    pub ca_key: Option<PathBuf>,
    /// How long the certificates are valid that it makes, such as `720h` (the default).
    #[serde(default)]
    pub certificate_life: Life,
    /// The store's file; made where there is none.
    pub store: PathBuf,
}

impl ControllerConfig {
    /// Whether its files are what they should be.
    ///
    /// # Errors
    /// The first that is not.
    pub fn ready(&self) -> Result<(), ControllerError> {
        api::tls::controller_config(&self.identity())?;
        self.signer().map(|_| ())
    }

    /// Its certificates.
    pub(crate) fn identity(&self) -> api::tls::Identity {
        api::tls::Identity { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }

    /// What makes certificates.
    ///
    /// # Errors
    /// `ca_key` names something that is not the key of `ca`.
    pub fn signer(&self) -> Result<Signer, ControllerError> {
        let authority = match &self.ca_key {
            Some(key) => Some(Authority::load(&self.ca, key)?),
            None => None,
        };
        Ok(Signer::new(authority, self.certificate_life.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_and_its_faults_are_named() {
        let good = "listen = \"10.77.0.1:7443\"\nca = \"ca.pem\"\ncert = \"c.pem\"\n\
                    key = \"c.key\"\nstore = \"store\"\n";
        let config: ControllerConfig = toml::from_str(good).unwrap();
        assert_eq!(config.listen, "10.77.0.1:7443".parse().unwrap());
        for (text, fault) in [
            (format!("{good}stoer = 1\n"), "stoer"),
            (good.replace("10.77.0.1:7443", "here"), "listen"),
            (format!("{good}certificate_life = \"2s\"\n"), "certificate_life"),
            (good.replace("store = \"store\"", ""), "store"),
        ] {
            let error = toml::from_str::<ControllerConfig>(&text).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }
}
