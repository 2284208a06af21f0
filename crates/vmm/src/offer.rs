//! What this host offers to VMs, for comparison with other hosts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use types::{Bytes, HostId, HostOffer, PoolName};

use crate::Hypervisor;

/// MTU of the networks that QEMU makes itself.
const USER_MTU: u32 = 1500;

impl Hypervisor {
    /// The networks that NICs can be plugged into, with their MTU.
    fn networks(&self) -> std::collections::BTreeMap<types::PoolName, u32> {
        let bridges = self.config.bridges.iter().filter_map(|b| Some((b.clone(), mtu(b)?)));
        let own = self.config.user_networks.iter().map(|name| (name.clone(), USER_MTU));
        bridges.chain(own).collect()
    }

    /// What the host `host`, which this is, offers now. Looks at devices and files
    /// and writes a mark into the pools, so it may take as long as they do.
    pub fn offer(&self, host: &HostId) -> HostOffer {
        HostOffer {
            boot_id: self.boot_id.clone(),
            machines: self.machines.known(),
            cpu: self.machines.cpu.clone(),
            firmware: self.firmware.clone(),
            mtu: self.networks(),
            pools: self.marks.look(host, &self.config.pools),
            memory_available: memory_available(Path::new("/proc/meminfo")),
        }
    }
}

/// The largest frame a bridge carries; `None` where there is no such device.
fn mtu(bridge: &PoolName) -> Option<u32> {
    let file = Path::new("/sys/class/net").join(bridge.as_str()).join("mtu");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// What the kernel could give without taking it from anybody.
fn memory_available(meminfo: &Path) -> Option<Bytes> {
    let text = fs::read_to_string(meminfo).ok()?;
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(':')).collect();
    let kib: u64 = fields.get("MemAvailable")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_it_could_give() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [
            ("MemTotal:  9 kB\nMemAvailable:    2048 kB\n", Some(Bytes(2 << 20))),
            ("MemTotal:  9 kB\n", None),
            ("MemAvailable: lots\n", None),
            ("MemAvailable: 18446744073709551615 kB\n", None),
        ] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(memory_available(file.path()), expected, "{text}");
        }
    }
}
