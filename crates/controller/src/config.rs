//! The controller's configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

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
            (good.replace("store = \"store\"", ""), "store"),
        ] {
            let error = toml::from_str::<ControllerConfig>(&text).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }
}
