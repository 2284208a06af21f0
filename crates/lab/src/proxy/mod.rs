//! The process that stands before the hosts' carriers: it forwards TCP and, when
//! told to, delays, cuts, resets and refuses it.

mod client;
mod control;
mod relay;
mod rules;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::HostId;

use crate::LabError;
pub use client::Proxy;
pub use rules::FrontStatus;

/// What the proxy is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Unix socket for commands.
    pub(crate) control: PathBuf,
    /// The hosts it stands before.
    pub(crate) hosts: Vec<Front>,
}

/// One host that the proxy stands before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Front {
    pub(crate) host: HostId,
    /// Address to listen on.
    pub(crate) listen: Ipv4Addr,
    /// Address to forward to, same port.
    pub(crate) target: Ipv4Addr,
    /// First and last port.
    pub(crate) ports: (u16, u16),
}

/// The program `godwit lab-proxy --config FILE`; returns only with an error.
pub fn proxy_main(config: &Path) -> Result<(), LabError> {
    let text = fs::read_to_string(config).map_err(LabError::file("read", config))?;
    let config: Config = serde_json::from_str(&text)
        .map_err(|e| LabError::Damaged { path: config.to_owned(), why: e.to_string() })?;
    allow_many_sockets();
    let system = |source| LabError::System { action: "start the proxy".into(), source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(run(config))
}

/// Each port of each host is a socket, and each connection two: more than the usual
/// limit with many hosts.
fn allow_many_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

pub(crate) async fn run(config: Config) -> Result<(), LabError> {
    let fronts = rules::Fronts::new(config.hosts.iter().map(|front| front.host.clone()));
    for (front, state) in config.hosts.iter().zip(fronts.iter()) {
        for port in front.ports.0..=front.ports.1 {
            tokio::spawn(relay::listen(
                (front.listen, port).into(),
                (front.target, port).into(),
                state.clone(),
            ));
        }
    }
    control::serve(&config.control, fronts).await
}
