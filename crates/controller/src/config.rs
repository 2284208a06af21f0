//! The controller's configuration file.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ControllerError;

/// Largest configuration in bytes.
const MAX_CONFIG: u64 = 64 << 10;

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
        toml::from_str(&text).map_err(|e| wrong(e.to_string()))
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
