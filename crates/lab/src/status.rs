//! What there is of a lab, as a table and as JSON.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use types::{HostId, Rate};

use crate::inside::{HostProcesses, OutsideProcesses};
use crate::proxy::FrontStatus;
use crate::state::{Places, State};
use crate::{Counters, Identity, LabError, Proxy, inside, link};

/// A lab.
#[derive(Debug, Clone, Serialize)]
pub struct LabStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// Its network.
    pub network: String,
    /// The controller's URL.
    pub controller: String,
    /// It came up completely.
    pub ready: bool,
    /// Rate of each host's link in bits a second; unlimited where absent.
    pub link: Option<Rate>,
    /// Controller and proxy.
    pub outside: OutsideProcesses,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// What the proxy does; absent where there is none, or none that answers.
    pub proxy: Option<Vec<FrontStatus>>,
}

/// A host of a lab.
#[derive(Debug, Clone, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub host: HostId,
    /// Its address.
    pub address: String,
    /// Its network namespace.
    pub namespace: String,
    /// Its directory, the only one of the hosts' that it sees.
    pub dir: PathBuf,
    /// The log of its agent.
    pub log: PathBuf,
    /// The link is connected; absent when there is no link any more.
    pub link_up: Option<bool>,
    /// What passed the link.
    pub counters: Option<Counters>,
    /// Its processes.
    pub processes: HostProcesses,
}

/// Looks at the lab in `dir`.
pub fn status(dir: &Path) -> Result<LabStatus, LabError> {
    let state = State::of(dir)?;
    let dir = dir.canonicalize().map_err(LabError::file("find", dir))?;
    let places = Places::new(&dir);
    let plan = state.plan;
    let host = |(number, host): (u8, HostId)| {
        let link = link::link_stats(plan, host.as_str()).ok();
        HostStatus {
            address: plan.host(number).to_string(),
            namespace: plan.namespace(&host),
            dir: places.host(host.as_str()),
            log: places.log(host.as_str()),
            link_up: link.map(|(_, up)| up),
            counters: link.map(|(counters, _)| counters),
            processes: inside::processes(&dir, host.as_str()).unwrap_or_default(),
            host,
        }
    };
    Ok(LabStatus {
        network: plan.network(),
        controller: plan.controller_url(),
        ready: state.ready,
        link: state.link,
        outside: inside::outside(&dir)?,
        hosts: plan.hosts().map(host).collect(),
        proxy: state.proxy.then(|| Proxy::of(&dir).and_then(|p| p.status()).ok()).flatten(),
        dir,
    })
}

impl fmt::Display for LabStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "up" } else { "not completely up" };
        writeln!(f, "lab         {} ({ready})", self.dir.display())?;
        let link = self.link.map_or_else(|| "not shaped".to_owned(), |rate| rate.to_string());
        writeln!(f, "network     {}, links {link}", self.network)?;
        let controller = pid(self.outside.controller);
        writeln!(f, "controller  {} (pid {controller})", self.controller)?;
        writeln!(f, "proxy       pid {}", pid(self.outside.proxy))?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<8} {:<13} {:<13} {:<5} {:>8}  {:<12} {:<12} {:<10}",
            "HOST", "ADDRESS", "NAMESPACE", "LINK", "AGENT", "QEMUS", "CARRIERS", "PROXY"
        )?;
        for host in &self.hosts {
            self.host_line(f, host)?;
        }
        Ok(())
    }
}

impl LabStatus {
    fn host_line(&self, f: &mut fmt::Formatter<'_>, host: &HostStatus) -> fmt::Result {
        let link = match host.link_up {
            Some(true) => "up",
            Some(false) => "down",
            None => "gone",
        };
        let front = self.proxy.iter().flatten().find(|front| front.host == host.host);
        writeln!(
            f,
            "{:<8} {:<13} {:<13} {link:<5} {:>8}  {:<12} {:<12} {:<10}",
            host.host,
            host.address,
            host.namespace,
            pid(host.processes.agent),
            pids(&host.processes.qemus),
            pids(&host.processes.carriers),
            front.map_or_else(|| "-".to_owned(), describe),
        )
    }
}

fn describe(front: &FrontStatus) -> String {
    let mut words = Vec::new();
    if front.delay_ms > 0 {
        words.push(format!("delay {} ms", front.delay_ms));
    }
    if front.cut {
        words.push("cut".into());
    }
    if front.refuse {
        words.push("refuses".into());
    }
    if words.is_empty() { "passes".into() } else { words.join(", ") }
}

fn pid(process: Option<Identity>) -> String {
    process.map_or_else(|| "-".to_owned(), |p| p.pid.to_string())
}

fn pids(processes: &[Identity]) -> String {
    if processes.is_empty() {
        return "-".into();
    }
    processes.iter().map(|p| p.pid.to_string()).collect::<Vec<_>>().join(" ")
}
