//! Who is called what and has which address: pure arithmetic over the number of
//! hosts and the lab's network.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use types::HostId;

use crate::LabError;

/// Most hosts a lab can have.
pub const MAX_HOSTS: usize = 26;

/// The network a lab has when nothing else is asked for: 10.77.0.0/16.
pub const DEFAULT_NET: u8 = 77;

/// Port the controller listens on.
pub const CONTROLLER_PORT: u16 = 7443;

/// Names and addresses of one lab. Two labs with different networks can be up
/// at the same time, in different directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Second octet of the network: `10.net.0.0/16`.
    pub net: u8,
    /// Number of hosts.
    pub hosts: usize,
}

impl Plan {
    /// A plan for `hosts` hosts (1 to [`MAX_HOSTS`]) in `10.net.0.0/16`.
    pub fn new(net: u8, hosts: usize) -> Result<Self, LabError> {
        if !(1..=MAX_HOSTS).contains(&hosts) {
            return Err(LabError::Option {
                option: "--hosts",
                given: hosts.to_string(),
                rule: format!("a lab has 1 to {MAX_HOSTS} hosts"),
            });
        }
        Ok(Self { net, hosts })
    }

    /// The hosts' numbers and names: (1, host-a), (2, host-b) …
    pub fn hosts(self) -> impl Iterator<Item = (u8, HostId)> {
        (1u8..).zip('a'..='z').take(self.hosts).filter_map(|(number, letter)| {
            format!("host-{letter}").parse().ok().map(|host| (number, host))
        })
    }

    /// The number of a host, from 1.
    pub fn number(self, host: &str) -> Result<u8, LabError> {
        self.find(host).map(|(number, _)| number)
    }

    /// A host's name, if the lab has that host.
    pub fn host_named(self, host: &str) -> Result<HostId, LabError> {
        self.find(host).map(|(_, host)| host)
    }

    fn find(self, host: &str) -> Result<(u8, HostId), LabError> {
        self.hosts().find(|(_, name)| name.as_str() == host).ok_or_else(|| {
            let known: Vec<_> = self.hosts().map(|(_, host)| host.to_string()).collect();
            LabError::NoHost { host: host.chars().take(80).collect(), known: known.join(", ") }
        })
    }

    /// The whole network, for people.
    pub fn network(self) -> String {
        format!("10.{}.0.0/16", self.net)
    }

    /// Length of the network's prefix in bits.
    pub const PREFIX: u8 = 16;

    /// Whether an address is of the lab's network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.octets()[..2] == [10, self.net]
    }

    /// Address of the outside: the root namespace, where the controller listens.
    pub fn outside(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 0, 1)
    }

    /// Address of host `number`.
    pub fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 0, 10 + number)
    }

    /// Address of the proxy that stands for the carriers of host `number`.
    pub fn proxy(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 0, 110 + number)
    }

    /// Address for guest `number`, in the same network as everything else.
    pub fn guest(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 1, number)
    }

    /// Ports that carriers listen on.
    pub fn carrier_ports(self) -> RangeInclusive<u16> {
        16000..=16031
    }

    /// URL of the controller.
    pub fn controller_url(self) -> String {
        format!("https://{}:{CONTROLLER_PORT}", self.outside())
    }

    /// Network namespace of a host, as `ip netns` knows it.
    pub fn namespace(self, host: &HostId) -> String {
        format!("{}{host}", self.prefix())
    }

    /// Network namespace with the bridge that connects hosts and outside. The
    /// bridge has a namespace of its own so that packet filters of this machine
    /// (Docker's, for one) do not see what passes between hosts.
    pub fn switch(self) -> String {
        format!("{}switch", self.prefix())
    }

    /// Interface of the root namespace that has the outside's addresses.
    pub fn outside_link(self) -> String {
        format!("gw-lab{}", self.net)
    }

    fn prefix(self) -> String {
        if self.net == DEFAULT_NET { "gw-".into() } else { format!("gw{}-", self.net) }
    }
}

/// Hardware address that follows from an IPv4 address, so that a lab looks the
/// same every time.
pub(crate) fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:67:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_letters_numbers_and_addresses() {
        let plan = Plan::new(DEFAULT_NET, 3).unwrap();
        let hosts: Vec<_> = plan.hosts().map(|(n, h)| (n, h.to_string())).collect();
        assert_eq!(hosts, [(1, "host-a".into()), (2, "host-b".into()), (3, "host-c".into())]);
        assert_eq!(plan.host(1).to_string(), "10.77.0.11");
        assert_eq!(plan.proxy(3).to_string(), "10.77.0.113");
        assert_eq!(plan.guest(9).to_string(), "10.77.1.9");
        assert_eq!(plan.controller_url(), "https://10.77.0.1:7443");
        assert_eq!(plan.namespace(&"host-a".parse().unwrap()), "gw-host-a");
        assert_eq!(plan.number("host-c").unwrap(), 3);
        let error = plan.number("host-d").unwrap_err().to_string();
        assert!(error.contains("host-a, host-b, host-c"), "{error}");
    }

    #[test]
    fn every_address_and_name_is_used_once_and_fits() {
        let plan = Plan::new(200, MAX_HOSTS).unwrap();
        let mut seen = std::collections::HashSet::from([plan.outside()]);
        for (number, host) in plan.hosts() {
            assert!(seen.insert(plan.host(number)) && seen.insert(plan.proxy(number)));
            assert!(plan.contains(plan.host(number)) && plan.contains(plan.guest(number)));
            assert_eq!(plan.namespace(&host), format!("gw200-{host}"));
        }
        assert_eq!(seen.len(), 1 + 2 * MAX_HOSTS);
        // An interface's name has at most 15 bytes.
        assert!(plan.outside_link().len() <= 15);
        assert!(!plan.contains(Ipv4Addr::new(10, 77, 0, 1)));
    }

    #[test]
    fn too_few_and_too_many_hosts_are_refused() {
        for hosts in [0, MAX_HOSTS + 1] {
            let error = Plan::new(DEFAULT_NET, hosts).unwrap_err().to_string();
            assert!(error.contains("1 to 26"), "{error}");
        }
    }
}
