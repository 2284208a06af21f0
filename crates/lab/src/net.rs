//! Making and removing namespaces and links.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;
use types::{HostId, Rate};

use crate::plan::mac;
use crate::proc::NamespaceId;
use crate::state::Namespace;
use crate::tool::{Maker, ip, parse};
use crate::{LabError, Plan};

const NETNS: &str = "/run/netns";
/// Bucket of a shaped link, as the time in which the link empties it: enough to
/// reach the rate with coarse timers, too little to be felt.
const BUCKET_MILLISECONDS: u64 = 4;
/// Two of the largest pieces that the stack hands down at once.
const SMALLEST_BUCKET: u64 = 128 << 10;
/// Longest time a packet waits for a shaped link before it is dropped.
const LATENCY: &str = "100ms";

/// Refuses when something of this machine has what the plan would take.
pub(crate) fn check_free(plan: Plan) -> Result<(), LabError> {
    let remedy = || "end what uses it, or give the lab another network with `--net`".to_owned();
    let in_use = |what: String, who: String| LabError::InUse { what, who, remedy: remedy() };
    let network = plan.network();
    let routes = ip(&format!("-j -4 route show root {network}"))?;
    if let Some(who) = taken(plan, &ip("-j -4 addr show")?, &routes)? {
        return Err(in_use(format!("the network {network}"), who));
    }
    let link = plan.outside_link();
    if Path::new("/sys/class/net").join(&link).exists() {
        return Err(in_use(format!("the interface {link}"), "it exists".into()));
    }
    let names = plan.hosts().map(|(_, host)| plan.namespace(&host));
    for name in std::iter::once(plan.switch()).chain(names) {
        if Path::new(NETNS).join(&name).exists() {
            return Err(in_use(
                format!("the network namespace {name}"),
                format!("{NETNS}/{name} exists"),
            ));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Ipv4Addr,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    dst: String,
    #[serde(default)]
    dev: String,
}

/// What has an address or a route within the plan's network. A larger network
/// around it, such as a VPN's 10.0.0.0/8, is no obstacle: the lab's is more specific.
fn taken(plan: Plan, addresses: &str, routes: &str) -> Result<Option<String>, LabError> {
    let interfaces: Vec<Interface> = parse("ip -j -4 addr show", addresses)?;
    let address = interfaces.iter().find_map(|interface| {
        let taken = interface.addr_info.iter().find(|a| plan.contains(a.local))?;
        Some(format!("{} has {}/{}", interface.ifname, taken.local, taken.prefixlen))
    });
    let routes: Vec<Route> = parse("ip -j -4 route show", routes)?;
    let route = routes.iter().find(|route| !route.dst.is_empty());
    Ok(address.or_else(|| route.map(|r| format!("{} is routed to {}", r.dst, r.dev))))
}

/// Makes a network namespace and gives it its name, as `ip netns add` would, but
/// without making the directory of names a mount, which would stay.
pub(crate) fn make_namespace(make: Maker, namespace: &Namespace) -> Result<NamespaceId, LabError> {
    let path = namespace.path();
    fs::create_dir_all(NETNS).map_err(LabError::file("make", Path::new(NETNS)))?;
    fs::File::create_new(&path).map_err(LabError::file("make", Path::new(&path)))?;
    make.run("unshare", &format!("--net={path} true"))?;
    make.ip(&format!("-n {} link set lo up", namespace.name))?;
    NamespaceId::of(&path)
        .ok_or(LabError::Damaged { path: path.into(), why: "no namespace is there".into() })
}

/// Makes the switch's bridge, and the link between it and the outside, with the
/// outside's address and those of the proxies.
pub(crate) fn make_switch(make: Maker, plan: Plan, proxies: bool) -> Result<(), LabError> {
    let (switch, link) = (plan.switch(), plan.outside_link());
    let prefix = Plan::PREFIX;
    for command in [
        format!("-n {switch} link add br0 type bridge forward_delay 0"),
        format!("-n {switch} link set br0 addrgenmode none up"),
        format!(
            "link add {link} address {} type veth peer name outside netns {switch}",
            mac(plan.outside())
        ),
        format!("-n {switch} link set outside addrgenmode none master br0 up"),
        format!("link set {link} addrgenmode none up"),
        format!("addr add {}/{prefix} dev {link}", plan.outside()),
    ] {
        make.ip(&command)?;
    }
    for (number, _) in plan.hosts().filter(|_| proxies) {
        make.ip(&format!("addr add {}/{prefix} dev {link}", plan.proxy(number)))?;
    }
    Ok(())
}

/// Makes a host's link to the switch, the bridge inside that its VMs' taps plug
/// into, and the host's address on that bridge.
pub(crate) fn make_host(
    make: Maker,
    plan: Plan,
    number: u8,
    host: &HostId,
    rate: Option<Rate>,
) -> Result<(), LabError> {
    let (switch, inside, address) = (plan.switch(), plan.namespace(host), plan.host(number));
    for command in [
        format!("-n {switch} link add {host} type veth peer name uplink netns {inside}"),
        format!("-n {inside} link add br0 address {} type bridge forward_delay 0", mac(address)),
        format!("-n {inside} link set uplink addrgenmode none master br0 up"),
        format!("-n {inside} link set br0 addrgenmode none up"),
        format!("-n {inside} addr add {address}/{} dev br0", Plan::PREFIX),
        format!("-n {switch} link set {host} addrgenmode none master br0 up"),
    ] {
        make.ip(&command)?;
    }
    let Some(rate) = rate else { return Ok(()) };
    let burst = (rate.bytes_per_second() / 1000 * BUCKET_MILLISECONDS).max(SMALLEST_BUCKET);
    for (namespace, link) in [(&inside, "uplink"), (&switch, host.as_str())] {
        let shape = format!(
            "-n {namespace} qdisc add dev {link} root tbf rate {}bit burst {burst} \
             latency {LATENCY}",
            rate.0
        );
        make.run("tc", &shape)?;
    }
    Ok(())
}

/// Deletes an interface of the root namespace; one that is not there is no error.
pub(crate) fn delete_link(name: &str) -> Result<(), LabError> {
    match ip(&format!("link del {name}")) {
        Err(_) if !Path::new("/sys/class/net").join(name).exists() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Takes a namespace's name away, unless it is another's by now, and the directory
/// of names if it is empty. The namespace itself goes with its last process.
pub(crate) fn delete_namespace(namespace: &Namespace) -> Result<(), LabError> {
    let path = namespace.path();
    if namespace.current().is_none() {
        return Ok(());
    }
    // Named twice where somebody mounted over the directory of names.
    while rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(LabError::file("remove", Path::new(&path))(e));
        }
        _ => {}
    }
    // Fails, rightly, while it holds names of others or is a mount of `ip netns`.
    let _ = fs::remove_dir(NETNS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_route_within_the_network_is_found() {
        let plan = Plan::new(77, 2).unwrap();
        let address = |local: &str, prefixlen: u8| {
            format!(
                r#"[{{}},{{"ifname":"eth0","addr_info":[{{"local":"{local}","prefixlen":{prefixlen}}}]}}]"#
            )
        };
        for (local, prefix, found) in [
            ("10.77.3.4", 24, true),
            ("10.77.0.1", 32, true),
            ("10.1.2.3", 8, false),
            ("10.78.0.1", 16, false),
            ("192.168.1.1", 24, false),
        ] {
            let expected = found.then(|| format!("eth0 has {local}/{prefix}"));
            assert_eq!(taken(plan, &address(local, prefix), "").unwrap(), expected);
        }
        let route = r#"[{"dst":"10.77.9.0/24","dev":"tun0","protocol":"static"}]"#;
        let who = taken(plan, "", route).unwrap();
        assert_eq!(who.as_deref(), Some("10.77.9.0/24 is routed to tun0"));
        assert_eq!(taken(plan, "[]", "[ ]").unwrap(), None);
        assert!(taken(plan, "{", "").is_err());
    }
}
