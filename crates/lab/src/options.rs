//! What a lab is asked to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::{Bytes, HostId, Outage, Rate};

use crate::{DEFAULT_NET, LabError, Plan};

/// Paths of unix sockets have at most 107 bytes, and the deepest of a lab,
/// `/hosts/host-a/run/` with an instance of 41 bytes and `/migration`, takes 69.
const LONGEST_DIR: usize = 38;

/// The slowest link that still carries a heartbeat, in bits a second.
const SLOWEST: u64 = 1_000_000;

/// A QEMU of a host's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qemu {
    /// The program; the lab's where absent.
    pub program: Option<PathBuf>,
    /// Directories where it finds its firmware.
    pub data: Vec<PathBuf>,
}

/// How to bring a lab up.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The lab directory; made when absent.
    pub dir: PathBuf,
    /// Second octet of the lab's network, `10.net.0.0/16`.
    pub net: u8,
    /// Number of hosts.
    pub hosts: usize,
    /// Rate of each host's link, in each direction; unlimited where absent.
    pub link: Option<Rate>,
    /// QEMU; the one on the path where absent.
    pub qemu: Option<PathBuf>,
    /// Directories where QEMU finds its firmware.
    pub qemu_data: Vec<PathBuf>,
    /// Hosts that have another QEMU.
    pub others: BTreeMap<HostId, Qemu>,
    /// `tcg` or `kvm`; agents find out where absent.
    pub accel: Option<String>,
    /// The agents' `data_plane`; their default where absent.
    pub data_plane: Option<String>,
    /// How long agents keep the memory of a VM that left; their default where absent.
    pub retain_seconds: Option<u32>,
    /// How long agents bear a broken link; their default where absent.
    pub outage: Option<Outage>,
    /// Guest memory of each host.
    pub memory: Bytes,
    /// The same in huge pages, which the kernel must have reserved; none where zero.
    pub hugepages: Bytes,
    /// Put a proxy before the carriers, so that delays, resets and cuts can be made.
    pub proxy: bool,
    /// Socket that the fleet's programs tell of points ([`crate::points`]).
    pub points: Option<PathBuf>,
    /// The `godwit` program.
    pub godwit: PathBuf,
    /// How long to wait for controller and agents; not at all where absent.
    pub wait: Option<Duration>,
}

impl UpOptions {
    /// Two hosts with 4 GiB for guests each, unshaped links, and a proxy.
    /// `godwit` is the program that runs now.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            net: DEFAULT_NET,
            hosts: 2,
            link: None,
            qemu: None,
            qemu_data: Vec::new(),
            others: BTreeMap::new(),
            accel: None,
            data_plane: None,
            retain_seconds: None,
            outage: None,
            memory: Bytes::mib(4096),
            hugepages: Bytes(0),
            proxy: true,
            points: None,
            godwit: std::env::current_exe().unwrap_or_else(|_| "godwit".into()),
            wait: Some(Duration::from_secs(60)),
        }
    }

    /// Checks what can be checked without touching anything.
    pub(crate) fn check(&self) -> Result<Plan, LabError> {
        let refuse = |option, given: String, rule: &str| {
            Err(LabError::Option { option, given, rule: rule.into() })
        };
        let dir = self.dir.to_string_lossy().into_owned();
        if dir.len() > LONGEST_DIR {
            let rule = format!(
                "the lab directory's path has at most {LONGEST_DIR} bytes, because sockets lie \
                 in it"
            );
            return refuse("--dir", dir, &rule);
        }
        if dir.chars().any(|c| c.is_control() || c == ',') || self.dir.to_str().is_none() {
            return refuse("--dir", dir, "a path without commas and control characters");
        }
        if let Some(Rate(bits)) = self.link.filter(|rate| rate.0 < SLOWEST) {
            return refuse("--link", bits.to_string(), "at least 1mbit");
        }
        if self.memory < Bytes::mib(64) {
            return refuse("--memory", self.memory.to_string(), "at least 64MiB");
        }
        let plan = Plan::new(self.net, self.hosts)?;
        let known = |host: &HostId| plan.hosts().any(|(_, known)| known == *host);
        if let Some(host) = self.others.keys().find(|host| !known(host)) {
            return refuse("--qemu", host.to_string(), "HOST must be a host of the lab");
        }
        Ok(plan)
    }

    /// The QEMU of a host, as an absolute path, and its directories.
    pub(crate) fn qemu_of(&self, host: &HostId) -> Result<(PathBuf, Vec<PathBuf>), LabError> {
        let Some(other) = self.others.get(host) else {
            return Ok((find_qemu(self.qemu.as_deref())?, self.qemu_data.clone()));
        };
        let program = other.program.as_deref().or(self.qemu.as_deref());
        Ok((find_qemu(program)?, other.data.clone()))
    }
}

/// A QEMU, or the one on the path, as an absolute path.
fn find_qemu(given: Option<&Path>) -> Result<PathBuf, LabError> {
    const NAME: &str = "qemu-system-x86_64";
    let missing = |program: &Path| LabError::Tool {
        program: program.display().to_string(),
        package: crate::tool::package(NAME),
    };
    match given {
        Some(path) => path.canonicalize().map_err(|_| missing(path)),
        None => find(NAME).ok_or_else(|| missing(Path::new(NAME))),
    }
}

/// The lab directory when none is given: `$GODWIT_LAB`, else `/var/tmp/godwit-lab`.
pub fn default_dir() -> PathBuf {
    std::env::var_os("GODWIT_LAB")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| "/var/tmp/godwit-lab".into(), PathBuf::from)
}

/// A program on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_the_rule() {
        let good = UpOptions::new("/var/tmp/godwit-lab");
        assert_eq!(good.check().unwrap(), Plan { net: 77, hosts: 2 });
        type Spoil = fn(&mut UpOptions);
        let cases: &[(Spoil, &str)] = &[
            (|o| o.dir = "/x".repeat(40).into(), "--dir"),
            (|o| o.dir = "/a,b".into(), "--dir"),
            (|o| o.hosts = 0, "--hosts"),
            (|o| o.link = Some(Rate(1000)), "--link"),
            (|o| o.memory = Bytes(4096), "--memory"),
            (|o| o.others = [("host-z".parse().unwrap(), Qemu::default())].into(), "--qemu"),
        ];
        for (spoil, option) in cases {
            let mut options = good.clone();
            spoil(&mut options);
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(option), "{error}");
        }
        let mut options = good;
        options.qemu = Some("/no/such/qemu".into());
        let (a, b) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
        let error = options.qemu_of(&a).unwrap_err().to_string();
        assert!(error.contains("/no/such/qemu") && error.contains("qemu-system-x86"), "{error}");
        let own = Qemu { program: Some("/bin/sh".into()), data: vec!["/data".into()] };
        options.others.insert(b, own);
        let (program, data) = options.qemu_of(&"host-b".parse().unwrap()).unwrap();
        assert!(program.is_absolute() && data == [PathBuf::from("/data")], "{program:?}");
    }
}
