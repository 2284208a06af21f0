//! What can be said of a configuration before an agent runs with it.

use api::Peer;
use api::certs::Validity;
use api::tls::{self, Identity};

use crate::AgentConfig;

/// Everything that would keep an agent with this configuration from its work, a
/// sentence each, with the field it is about.
pub fn check(config: &AgentConfig) -> Vec<String> {
    let mut problems = Vec::new();
    certificate(config, &mut problems);
    if !config.qemu.is_file() {
        let qemu = config.qemu.display();
        problems.push(format!("qemu: {qemu} is not there: install QEMU, or name where it is"));
    }
    for (name, dir) in &config.pools {
        if !dir.is_dir() {
            problems.push(format!("pools.{name}: {} is no folder", dir.display()));
        }
    }
    for bridge in &config.bridges {
        if !vmm::has_device(bridge.as_str()) {
            problems.push(format!("bridges: this host has no bridge {bridge}: make it"));
        }
    }
    if let Some(both) = config.user_networks.iter().find(|name| config.bridges.contains(name)) {
        problems.push(format!("user_networks: {both} is among bridges too"));
    }
    problems
}

fn certificate(config: &AgentConfig, problems: &mut Vec<String>) {
    let files =
        Identity { ca: config.ca.clone(), cert: config.cert.clone(), key: config.key.clone() };
    if let Err(error) = tls::client_config(&files) {
        problems.push(format!("ca, cert, key: {error}"));
        return;
    }
    match Peer::of_file(&config.cert) {
        Ok(peer) if peer.host().ok().as_ref() == Some(&config.host) => {}
        Ok(peer) => problems.push(format!("host: the certificate is of {}", peer.name)),
        Err(error) => problems.push(format!("cert: {error}")),
    }
    let now = jiff::Timestamp::now().as_second();
    if let Ok(validity) = Validity::of(&config.cert)
        && validity.over(now)
    {
        let end = validity.end();
        problems.push(format!("cert: it was valid until {end}: `godwit host enroll --replace`"));
    }
}
