//! Looking into a host and running things in it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus};

use serde::Serialize;

use crate::down::members;
use crate::proc::{NamespaceId, Seen};
use crate::state::State;
use crate::{Identity, LabError};

/// The processes of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostProcesses {
    /// Starts the agent again when it ends.
    pub supervisor: Option<Identity>,
    /// The agent; absent between an end and the next start.
    pub agent: Option<Identity>,
    /// Carriers.
    pub carriers: Vec<Identity>,
    /// QEMUs.
    pub qemus: Vec<Identity>,
    /// Whatever else lives in the host's network namespace.
    pub others: Vec<Identity>,
}

/// The processes of the lab that live in the root namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutsideProcesses {
    /// The controller; absent between an end and the next start.
    pub controller: Option<Identity>,
    /// The proxy; absent where the lab has none, too.
    pub proxy: Option<Identity>,
    /// Supervisors of both.
    pub supervisors: Vec<Identity>,
}

/// What a process of the lab is, by how it was called.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Supervisor,
    Agent,
    Controller,
    Proxy,
    Carrier,
    Qemu,
    Other,
}

fn kind(arguments: &[String]) -> Kind {
    let name = arguments.first().and_then(|a| Path::new(a).file_name()).and_then(OsStr::to_str);
    if name.is_some_and(|name| name.starts_with("qemu-system-")) {
        return Kind::Qemu;
    }
    match arguments.get(1).map(String::as_str) {
        Some("lab-host") => Kind::Supervisor,
        Some("lab-proxy") => Kind::Proxy,
        Some("agent") => Kind::Agent,
        Some("controller") => Kind::Controller,
        Some("carrier") => Kind::Carrier,
        _ => Kind::Other,
    }
}

/// The processes that live in a host now.
pub fn processes(dir: &Path, host: &str) -> Result<HostProcesses, LabError> {
    let state = State::of(dir)?;
    Ok(sort(inhabitants(&state, host)?))
}

/// Controller and proxy.
pub fn outside(dir: &Path) -> Result<OutsideProcesses, LabError> {
    let state = State::of(dir)?;
    let mut found = OutsideProcesses::default();
    let root = NamespaceId::of("/proc/self/ns/net");
    for seen in members(&state).iter().filter(|seen| seen.net == root) {
        match kind(&seen.arguments) {
            Kind::Controller => found.controller = Some(seen.id),
            Kind::Proxy => found.proxy = Some(seen.id),
            Kind::Supervisor => found.supervisors.push(seen.id),
            _ => {}
        }
    }
    Ok(found)
}

pub(crate) fn inhabitants(state: &State, host: &str) -> Result<Vec<Seen>, LabError> {
    let net = state.namespace(host)?.current();
    Ok(members(state).into_iter().filter(|seen| net.is_some() && seen.net == net).collect())
}

pub(crate) fn sort(seen: Vec<Seen>) -> HostProcesses {
    let mut found = HostProcesses::default();
    for seen in seen {
        match kind(&seen.arguments) {
            Kind::Supervisor => found.supervisor = Some(seen.id),
            Kind::Agent => found.agent = Some(seen.id),
            Kind::Carrier => found.carriers.push(seen.id),
            Kind::Qemu => found.qemus.push(seen.id),
            Kind::Controller | Kind::Proxy | Kind::Other => found.others.push(seen.id),
        }
    }
    found
}

/// A command that runs in a host's namespaces when it is started. It is ended by
/// `down` at the latest.
pub fn command_in(dir: &Path, host: &str, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
    let state = State::of(dir)?;
    let namespace = state.namespace(host)?;
    // Any process of the host has its mount namespace; a supervisor does for sure.
    let here = NamespaceId::of("/proc/self/ns/mnt");
    let inside = inhabitants(&state, host)?;
    let of_host = |seen: &&Seen| seen.mnt.is_some() && seen.mnt != here;
    let target = inside
        .iter()
        .filter(of_host)
        .min_by_key(|seen| kind(&seen.arguments) != Kind::Supervisor)
        .ok_or_else(|| LabError::Command {
            command: format!("enter {host}"),
            why: "no process keeps its mount namespace any more: end the lab".into(),
        })?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.path()));
    command.arg(format!("--mount=/proc/{}/ns/mnt", target.id.pid));
    command.arg("--").arg(program);
    command.env(crate::proc::MARKER, &state.id);
    Ok(command)
}

/// Runs a command in a host's namespaces to its end, with this process's input
/// and output.
pub fn exec_in<A: AsRef<OsStr>>(
    dir: &Path,
    host: &str,
    command: &[A],
) -> Result<ExitStatus, LabError> {
    let [program, args @ ..] = command else {
        return Err(LabError::Option {
            option: "command",
            given: String::new(),
            rule: "a program and its arguments".into(),
        });
    };
    let name = program.as_ref().to_string_lossy().into_owned();
    command_in(dir, host, program)?
        .args(args)
        .status()
        .map_err(|e| LabError::Command { command: name, why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_how_they_were_called() {
        for (line, expected) in [
            ("/opt/x/qemu-system-x86_64 -S", Kind::Qemu),
            ("/usr/bin/godwit agent --config x", Kind::Agent),
            ("godwit carrier", Kind::Carrier),
            ("godwit controller", Kind::Controller),
            ("godwit lab-host --config x", Kind::Supervisor),
            ("godwit lab-proxy --config x", Kind::Proxy),
            ("sleep 60", Kind::Other),
            ("", Kind::Other),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(kind(&arguments), expected, "{line}");
        }
    }
}
