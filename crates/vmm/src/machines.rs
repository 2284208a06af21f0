//! What a QEMU binary says of itself: version and machine types.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use types::CpuOffer;

use crate::argv::Bus;
use crate::{Accel, HostConfig, VmmError, cpu, dirs};

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Version and machine types of a QEMU.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    pub(crate) version: String,
    /// The processor it can show to a guest.
    pub(crate) cpu: CpuOffer,
    /// Names, and aliases with what they stand for.
    names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Machine {
    name: String,
    alias: Option<String>,
}

impl Machines {
    /// Asks a QEMU without a machine.
    pub(crate) async fn ask(config: &HostConfig, accel: Accel) -> Result<Self, VmmError> {
        let socket = config.run_dir.join("probe.qmp");
        let log = config.run_dir.join("probe.log");
        let (output, start) = dirs::log(&log)?;
        let path = socket.to_string_lossy().replace(',', ",,");
        let child = Command::new(&config.qemu)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S"])
            .args(["-accel", &accel.to_string()])
            .arg("-chardev")
            .arg(format!("socket,id=qmp,path={path},server=on,wait=off"))
            .args(["-mon", "chardev=qmp,mode=control"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(VmmError::io("run", &config.qemu))?;
        let answered = tokio::select! {
            answered = tokio::time::timeout(PATIENCE, Self::ask_at(&socket, accel)) => {
                answered.unwrap_or_else(|_| Err("no answer".to_owned()))
            }
            _ = child.wait() => Err("it ended".to_owned()),
        };
        let _ = child.kill().await;
        let _ = std::fs::remove_file(&socket);
        let answered =
            answered.map_err(|problem| VmmError::Start { problem, log: dirs::tail(&log, start) });
        let _ = std::fs::remove_file(&log);
        answered
    }

    async fn ask_at(socket: &Path, accel: Accel) -> Result<Self, String> {
        let (client, _) = loop {
            match qmp::Client::connect(socket, PATIENCE).await {
                Ok(connected) => break connected,
                Err(qmp::QmpError::Connect { .. }) => tokio::time::sleep(POLL).await,
                Err(error) => return Err(error.to_string()),
            }
        };
        let ask =
            async |command| client.execute(command, Value::Null).await.map_err(|e| e.to_string());
        let version = ask("query-version").await?;
        let machines = serde_json::from_value(ask("query-machines").await?);
        let machines: Vec<Machine> = machines.map_err(|e| format!("query-machines: {e}"))?;
        let cpu = cpu::ask(&client, accel).await;
        Ok(Self { cpu, ..Self::new(version_text(&version), machines) })
    }

    fn new(version: String, machines: Vec<Machine>) -> Self {
        let mut names = BTreeMap::new();
        for machine in machines {
            if let Some(alias) = machine.alias {
                names.insert(alias, machine.name.clone());
            }
            names.insert(machine.name.clone(), machine.name);
        }
        Self { version, cpu: CpuOffer::default(), names }
    }

    /// The versioned names of all that may be used.
    pub(crate) fn known(&self) -> Vec<String> {
        let versioned = self.names.iter().filter(|(given, name)| given == name);
        versioned.map(|(_, name)| name.clone()).filter(|name| Bus::of(name).is_ok()).collect()
    }

    /// The versioned name of a machine type.
    pub(crate) fn resolve(&self, machine: &str) -> Result<String, VmmError> {
        let found = self.names.get(machine).ok_or_else(|| {
            VmmError::missing(
                format!("machine {machine}"),
                format!("QEMU {} of this host does not know it", self.version),
            )
        })?;
        Bus::of(found)?;
        Ok(found.clone())
    }
}

/// `{"qemu": {"major": 7, "minor": 2, "micro": 22}, …}` as `7.2.22`.
fn version_text(answer: &Value) -> String {
    let part = |name| answer.pointer(&format!("/qemu/{name}")).and_then(Value::as_u64).unwrap_or(0);
    format!("{}.{}.{}", part("major"), part("minor"), part("micro"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_become_versioned_names() {
        let machine = |name: &str, alias: Option<&str>| Machine {
            name: name.to_owned(),
            alias: alias.map(str::to_owned),
        };
        let machines = Machines::new(
            "7.2.22".into(),
            vec![
                machine("pc-q35-7.2", Some("q35")),
                machine("pc-q35-7.1", None),
                machine("pc-i440fx-7.2", Some("pc")),
                machine("microvm", None),
            ],
        );
        assert_eq!(machines.known(), ["pc-i440fx-7.2", "pc-q35-7.1", "pc-q35-7.2"]);
        for (given, expected) in [
            ("q35", Ok("pc-q35-7.2")),
            ("pc", Ok("pc-i440fx-7.2")),
            ("pc-q35-7.1", Ok("pc-q35-7.1")),
            ("pc-q35-10.0", Err("does not know it")),
            ("microvm", Err("must be q35")),
        ] {
            match (machines.resolve(given), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{given}: {found:?}"),
            }
        }
    }

    #[test]
    fn versions_are_read() {
        let answer = serde_json::json!({ "qemu": { "major": 10, "minor": 0, "micro": 2 } });
        assert_eq!(version_text(&answer), "10.0.2");
    }
}
