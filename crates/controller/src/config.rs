//! The controller's configuration file.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::certs::Authority;
use serde::Deserialize;

use crate::{ControllerError, Signer};

/// Largest configuration in bytes.
const MAX_CONFIG: u64 = 64 << 10;
/// How long certificates are valid where nothing is said: thirty days.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(87_600 * 3600);

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
    pub certificate_life: Option<jiff::SignedDuration>,
    /// The store's file; made where there is none.
    pub store: PathBuf,
}

impl ControllerConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong or unknown.
    pub fn load(path: &Path) -> Result<Self, ControllerError> {
        let unread = |source| ControllerError::Unread { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(unread)?;
        file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(unread)?;
        let wrong = |problem| ControllerError::Config { path: path.to_owned(), problem };
        if text.len() as u64 > MAX_CONFIG {
            return Err(wrong("it is larger than 64 KiB".to_owned()));
        }
        let config: Self = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        config.life().map_err(wrong)?;
        Ok(config)
    }

    fn life(&self) -> Result<Duration, String> {
        let Some(life) = self.certificate_life else { return Ok(LIFE) };
        Duration::try_from(life)
            .ok()
            .filter(|life| (SHORTEST..=LONGEST).contains(life))
            .ok_or_else(|| "certificate_life: must be 10s to 87600h".to_owned())
    }

    /// Whether its files are what they should be.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), ControllerError> {
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
        let wrong = |problem| ControllerError::Config { path: self.ca.clone(), problem };
        let life = self.life().map_err(wrong)?;
        let authority = match &self.ca_key {
            Some(key) => Some(Authority::load(&self.ca, key)?),
            None => None,
        };
        Ok(Signer::new(authority, life))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_and_its_faults_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("controller.toml");
        let good = "listen = \"10.77.0.1:7443\"\nca = \"ca.pem\"\ncert = \"c.pem\"\n\
                    key = \"c.key\"\nstore = \"store\"\n";
        std::fs::write(&path, good).unwrap();
        let config = ControllerConfig::load(&path).unwrap();
        assert_eq!(config.listen, "10.77.0.1:7443".parse().unwrap());
        for (text, fault) in [
            (format!("{good}stoer = 1\n"), "stoer"),
            (good.replace("10.77.0.1:7443", "here"), "listen"),
            (format!("{good}certificate_life = \"2s\"\n"), "certificate_life"),
            (good.replace("store = \"store\"", ""), "store"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ControllerConfig::load(&path).unwrap_err().to_string();
            assert!(error.contains(fault) && error.contains("controller.toml"), "{error}");
        }
        let error = ControllerConfig::load(&directory.path().join("none")).unwrap_err();
        assert!(matches!(error, ControllerError::Unread { .. }));
    }
}
