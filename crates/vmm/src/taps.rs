//! Taps: the host's ends of a VM's network interfaces.

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use types::{PoolName, VmId};

use crate::VmmError;

/// The host's end of one network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// The device's name, at most 15 characters.
    pub name: String,
    /// The bridge it is plugged into.
    pub bridge: PoolName,
    /// There is no device: QEMU makes the network itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
}

impl Tap {
    /// The tap of an instance's `index`th interface. Two instances never share one.
    pub(crate) fn new(vm: VmId, instance: &str, index: usize, bridge: &PoolName) -> Self {
        let hash = fnv(format!("{index} {vm} {instance}").as_bytes());
        Self { name: format!("gw{:012x}", hash >> 16), bridge: bridge.clone(), user: false }
    }

    /// The same on a network of QEMU's own.
    pub(crate) fn by_qemu(self, user: bool) -> Self {
        Self { user, ..self }
    }

    /// Makes the device anew and plugs it in. Its link goes up, QEMU or not.
    pub(crate) async fn create(&self) -> Result<(), VmmError> {
        if self.user {
            return Ok(());
        }
        self.remove().await?;
        let name = self.name.as_str();
        ip(&["tuntap", "add", "dev", name, "mode", "tap"]).await?;
        let bridge = self.bridge.as_str();
        // The host itself says nothing on it, not even neighbour discovery.
        ip(&["link", "set", "dev", name, "addrgenmode", "none", "master", bridge, "up"]).await
    }

    /// Removes the device; fine if there is none.
    pub(crate) async fn remove(&self) -> Result<(), VmmError> {
        if self.user || !exists(&self.name) {
            return Ok(());
        }
        match ip(&["link", "del", "dev", &self.name]).await {
            Err(_) if !exists(&self.name) => Ok(()),
            result => result,
        }
    }
}

/// Whether this network namespace has a device of that name.
pub fn exists(name: &str) -> bool {
    socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .is_ok_and(|fd| name_to_index(fd, name).is_ok())
}

async fn ip(args: &[&str]) -> Result<(), VmmError> {
    let command = format!("ip {}", args.join(" "));
    let output = Command::new("ip").args(args).kill_on_drop(true).output().await;
    let problem = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("cannot be run ({error}); iproute2 must be installed"),
    };
    Err(VmmError::Command { command, problem })
}

/// Fowler, Noll and Vo's hash 1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        let bridge: PoolName = "br0".parse().unwrap();
        let mut names = BTreeSet::new();
        for vm in 0..8 {
            for instance in ["s1", "s2", "d0123456789abcdef"] {
                for index in 0..16 {
                    let tap = Tap::new(VmId(uuid::Uuid::from_u128(vm)), instance, index, &bridge);
                    assert!(tap.name.len() <= 15, "{}", tap.name);
                    names.insert(tap.name);
                }
            }
        }
        assert_eq!(names.len(), 8 * 3 * 16);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
