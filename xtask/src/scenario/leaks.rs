//! What there is of VMs on a host, and whether a refusal changed any of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use api::body::HistoryQuery;

use crate::fleet::Fleet;
use crate::proc;

const SOON: Duration = Duration::from_secs(20);

/// Everything that a migration would make, as lines of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at both hosts and at the controller's records.
    ///
    /// # Errors
    /// Something cannot be looked at.
    pub(super) fn take(fleet: &Fleet) -> Result<Self> {
        let mut lines = BTreeSet::new();
        for host in ["host-a", "host-b"] {
            lines.extend(of_host(fleet, host)?);
        }
        for view in fleet.ask(async |c| c.vms().await)? {
            // Owner, epoch and the attempt's slot; what was asked for.
            lines
                .insert(format!("record {} {:?} {}", view.spec.name, view.ownership, view.desired));
        }
        for view in fleet.ask(async |c| c.hosts().await)? {
            lines.insert(format!("reserved {} {}", view.facts.host, view.facts.memory_used));
        }
        let history = fleet.ask(async |c| c.history(&HistoryQuery::default()).await)?;
        lines.insert(format!("history {}", history.last().map_or(0, |event| event.seq)));
        Ok(Self(lines))
    }

    /// What is different, each line with `+` or `-`.
    pub(super) fn changes(&self, after: &Self) -> Vec<String> {
        let gone = self.0.difference(&after.0).map(|line| format!("- {line}"));
        gone.chain(after.0.difference(&self.0).map(|line| format!("+ {line}"))).collect()
    }
}

/// Processes with their namespaces, taps, and every file, socket and memory file.
fn of_host(fleet: &Fleet, host: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let processes = lab::processes(fleet.dir(), host)?;
    for (kind, all) in [("qemu", &processes.qemus), ("carrier", &processes.carriers)] {
        for process in all {
            let space = |name: &str| {
                std::fs::read_link(format!("/proc/{}/ns/{name}", process.pid))
                    .map_or_else(|_| "?".to_owned(), |link| link.display().to_string())
            };
            let spaces = ["net", "mnt", "pid", "ipc", "cgroup"].map(space).join(" ");
            lines.push(format!("{host} {kind} {} {spaces}", process.pid));
        }
    }
    let mut ip = lab::command_in(fleet.dir(), host, "ip")?;
    let links = proc::output(ip.args(["-o", "link", "show", "type", "tun"]), SOON)?;
    // Counters and the like stand behind the name.
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    lines.extend(names.map(|name| format!("{host} tap {name}")));
    let mut find = lab::command_in(fleet.dir(), host, "find")?;
    for folder in ["run", "memory", "state"] {
        find.arg(fleet.host_dir(host).join(folder));
    }
    find.args(["-not", "-name", "*.log", "-not", "-name", "probe*", "-printf", "%y %m %p\\n"]);
    lines.extend(proc::output(&mut find, SOON)?.lines().map(|line| format!("{host} {line}")));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_both_ways() {
        let of = |lines: &[&str]| Snapshot(lines.iter().map(|l| (*l).to_owned()).collect());
        assert_eq!(of(&["a", "b"]).changes(&of(&["b", "c"])), ["- a", "+ c"]);
        assert!(of(&["a"]).changes(&of(&["a"])).is_empty());
    }
}
