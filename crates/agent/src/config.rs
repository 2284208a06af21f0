//! `agent.toml`: what an administrator says of a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use types::{Bytes, HostId, PoolName};

/// The agent's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The host's name, equal to the one in its certificate.
    pub host: HostId,
    /// Address on which carriers listen.
    pub address: String,
    /// Address under which other hosts reach them, where it differs.
    #[serde(default)]
    pub advertise: Option<String>,
    /// First and last port for carriers.
    pub carrier_ports: (u16, u16),
    /// The controller, `https://address:port`.
    pub controller: String,
    /// PEM file: trust anchor.
    pub ca: PathBuf,
    /// PEM file: own certificate.
    pub cert: PathBuf,
    /// PEM file: own private key.
    pub key: PathBuf,
    /// Journal and serial logs; survives reboots.
    pub state_dir: PathBuf,
    /// Sockets and pid files of running VMs.
    pub run_dir: PathBuf,
    /// Where guest memory lies: a tmpfs of the agent's own.
    pub memory_dir: PathBuf,
    /// Memory for VMs: the size of that tmpfs.
    pub memory_size: Bytes,
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// Directories with QEMU's firmware, where not the built-in ones.
    #[serde(default)]
    pub qemu_data: Vec<PathBuf>,
    /// How guests are executed; probed when absent.
    #[serde(default)]
    pub accel: Option<String>,
    /// How memory travels to this host. Anything but `direct` is a fall-back.
    #[serde(default)]
    pub data_plane: DataPlane,
    /// Bridges that NICs may be plugged into.
    #[serde(default)]
    pub bridges: Vec<PoolName>,
    /// Storage pools: name and directory.
    #[serde(default)]
    pub pools: BTreeMap<PoolName, PathBuf>,
}

/// How memory travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPlane {
    /// Straight into the memory file, where the stream is understood.
    #[default]
    Direct,
    /// Through QEMU's stream, page by page.
    Stream,
    /// As bytes that nobody looks into.
    Opaque,
}

impl AgentConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file with line and field, and what is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fail = |problem: String| ConfigError { file: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        let (first, last) = config.carrier_ports;
        if first == 0 || last < first {
            return Err(fail("carrier_ports: must be [first, last] with 0 < first <= last".into()));
        }
        if !config.controller.starts_with("https://") {
            return Err(fail("controller: must be https://address:port".into()));
        }
        Ok(config)
    }
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ConfigError {
    file: PathBuf,
    problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        host = "host-a"
        address = "10.77.0.11"
        carrier_ports = [16000, 16031]
        controller = "https://10.77.0.1:7443"
        ca = "/etc/godwit/ca.pem"
        cert = "/etc/godwit/host-a.pem"
        key = "/etc/godwit/host-a.key"
        state_dir = "/var/lib/godwit"
        run_dir = "/run/godwit"
        memory_dir = "/run/godwit/memory"
        memory_size = "4GiB"
        qemu = "/usr/bin/qemu-system-x86_64"
        bridges = ["br0"]
        [pools]
        images = "/srv/images"
    "#;

    fn load(text: &str) -> Result<AgentConfig, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        AgentConfig::load(file.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn good_ones_load_and_bad_ones_are_named() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.memory_size, Bytes(4 << 30));
        assert_eq!(config.data_plane, DataPlane::Direct);
        for (from, to, named) in [
            ("16000, 16031", "9, 3", "carrier_ports"),
            ("https://", "http://", "controller"),
            ("\"4GiB\"", "\"4 parsecs\"", "memory_size"),
            ("bridges", "bridgse", "bridgse"),
            ("host-a\"", "a/b\"", "host"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
