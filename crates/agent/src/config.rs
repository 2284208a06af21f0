//! `agent.toml`: what an administrator says of a host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use types::{Bytes, Force, HostId, Outage, PoolName};

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
    /// Where guest memory of huge pages lies: a hugetlbfs of the agent's own. Without
    /// it the host offers none.
    #[serde(default)]
    pub hugepages_dir: Option<PathBuf>,
    /// Memory for VMs in huge pages of 2 MiB: the size of that hugetlbfs.
    #[serde(default)]
    pub hugepages_size: Bytes,
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
    /// UEFI firmware: its code, and variables of a VM that has never run. Looked for
    /// in the usual places when absent.
    #[serde(default)]
    pub uefi_code: Option<PathBuf>,
    /// See `uefi_code`.
    #[serde(default)]
    pub uefi_vars: Option<PathBuf>,
    /// How long a VM that leaves bears a broken link to its destination.
    #[serde(default)]
    pub outage: Outage,
    /// For tests of the data plane: how pages travel where there is a choice.
    #[serde(default)]
    pub(crate) force: Option<Force>,
    /// How long the memory of a VM that left is kept for its return; 0 keeps nothing.
    #[serde(default = "an_hour")]
    pub retain_seconds: u32,
    /// How much of the memory for VMs such images may take, while nobody else needs it;
    /// half of it when absent.
    #[serde(default)]
    pub retain_memory: Option<Bytes>,
    /// How much of `state_dir` copies of such images may take, so that they outlive a reboot.
    /// They are the memory of guests, as it was.
    #[serde(default)]
    pub retain_disk: Bytes,
    /// Bridges that NICs may be plugged into.
    #[serde(default)]
    pub bridges: Vec<PoolName>,
    /// Networks that NICs may be plugged into instead, made by QEMU itself: a VM reaches
    /// out through the host's own connections, and is not reached.
    #[serde(default)]
    pub user_networks: Vec<PoolName>,
    /// Storage pools: name and directory.
    #[serde(default)]
    pub pools: BTreeMap<PoolName, PathBuf>,
    /// Pools of block devices: name and directory, such as `/dev/disk/by-id`.
    #[serde(default)]
    pub device_pools: BTreeMap<PoolName, PathBuf>,
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

fn an_hour() -> u32 {
    3600
}

/// A destination waits no longer for its source, in seconds.
const LONGEST_OUTAGE: u32 = 3600;

impl AgentConfig {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// A field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let (first, last) = self.carrier_ports;
        if first == 0 || last < first {
            return wrong("carrier_ports", "must be [first, last] with 0 < first <= last");
        }
        if self.outage.copy_seconds.max(self.outage.tail_seconds) > LONGEST_OUTAGE {
            return wrong("outage", format!("at most {LONGEST_OUTAGE} seconds"));
        }
        if !self.controller.starts_with("https://") {
            return wrong("controller", "must be https://address:port");
        }
        self.check_memory()?;
        match self.device_pools.keys().find(|name| self.pools.contains_key(*name)) {
            Some(name) => wrong("device_pools", format!("{name} is a pool of files already")),
            None => Ok(()),
        }
    }

    fn check_memory(&self) -> Result<(), (&'static str, String)> {
        match (self.hugepages_dir.is_some(), self.hugepages_size.0 > 0) {
            (true, false) => return wrong("hugepages_dir", "give hugepages_size too"),
            (false, true) => return wrong("hugepages_size", "give hugepages_dir too"),
            _ => {}
        }
        if !self.hugepages_size.0.is_multiple_of(2 << 20) {
            return wrong("hugepages_size", "must be a multiple of 2 MiB");
        }
        match (self.uefi_code.is_some(), self.uefi_vars.is_some()) {
            (true, false) => wrong("uefi_code", "give uefi_vars too"),
            (false, true) => wrong("uefi_vars", "give uefi_code too"),
            _ => Ok(()),
        }
    }

    /// The host's part of every VM's life; `carrier` is this program.
    pub(crate) fn hypervisor(&self, carrier: PathBuf) -> vmm::HostConfig {
        let size = self.hugepages_size;
        let uefi = self.uefi_code.clone().zip(self.uefi_vars.clone());
        vmm::HostConfig {
            qemu: self.qemu.clone(),
            data_dirs: self.qemu_data.clone(),
            accel: self.accel.clone(),
            run_dir: self.run_dir.clone(),
            state_dir: self.state_dir.clone(),
            memory_dir: self.memory_dir.clone(),
            memory_size: self.memory_size,
            retain: vmm::Retain {
                // Images are of use only where pages are placed.
                age: match self.data_plane {
                    DataPlane::Direct => Duration::from_secs(self.retain_seconds.into()),
                    _ => Duration::ZERO,
                },
                memory: self.retain_memory.unwrap_or(Bytes(self.memory_size.0 / 2)),
                disk: self.retain_disk,
            },
            hugepages: self.hugepages_dir.clone().map(|dir| vmm::HugePages { dir, size }),
            uefi: uefi.map(|(code, vars)| vmm::UefiFiles { code, vars }),
            pools: self.pools.clone(),
            device_pools: self.device_pools.clone(),
            bridges: self.bridges.clone(),
            user_networks: self.user_networks.clone(),
            carrier,
        }
    }
}

fn wrong<T>(field: &'static str, problem: impl Into<String>) -> Result<T, (&'static str, String)> {
    Err((field, problem.into()))
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
        let config: AgentConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|(field, problem)| format!("{field}: {problem}"))?;
        Ok(config)
    }

    #[test]
    fn good_ones_load_and_bad_ones_are_named() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.memory_size, Bytes(4 << 30));
        assert_eq!(config.data_plane, DataPlane::Direct);
        assert_eq!(config.outage, Outage::default());
        let patient = format!("{GOOD}\n[outage]\ntail_seconds = 20\n");
        let outage = load(&patient).unwrap().outage;
        assert_eq!(outage, Outage { tail_seconds: 20, ..Outage::default() });
        assert!(load(&patient.replace("20", "9999")).unwrap_err().contains("outage"));
        for (from, to, named) in [
            ("16000, 16031", "9, 3", "carrier_ports"),
            ("https://", "http://", "controller"),
            ("\"4GiB\"", "\"4 parsecs\"", "memory_size"),
            ("bridges", "bridgse", "bridgse"),
            ("host-a\"", "a/b\"", "host"),
            ("bridges", "hugepages_size = \"1GiB\"\nbridges", "hugepages_dir"),
            ("bridges", "hugepages_size = 3\nhugepages_dir = \"/h\"\nbridges", "2 MiB"),
            ("bridges", "uefi_code = \"/code\"\nbridges", "uefi_vars"),
            ("[pools]", "[device_pools]\nimages = \"/dev\"\n[pools]", "device_pools"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
