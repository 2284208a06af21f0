//! An `agent.toml` to begin with.

use std::net::{ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use api::certs;
use types::HostId;

use super::places::Places;
use crate::failure::{FAILED, Failure};

/// Ports for carriers.
const PORTS: (u16, u16) = (16000, 16063);
/// The emulator, in the order of likelihood.
const QEMUS: [&str; 3] =
    ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];

/// What is known of the host.
pub(crate) struct Plan<'a> {
    pub(crate) host: &'a HostId,
    pub(crate) controller: &'a str,
    pub(crate) ca: &'a Path,
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) places: &'a Places,
}

/// Writes the file, unless there is one.
pub(crate) fn write(path: &Path, plan: &Plan<'_>) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let address = own_address(plan.controller).ok_or_else(|| {
        Failure::new(FAILED, "the address of this machine is not known")
            .help("write agent.toml by hand: see docs/configuration.md")
    })?;
    let memory = half_of_memory();
    certs::replace(path, text(plan, &address, memory, &qemu()).as_bytes(), 0o644)?;
    Ok(())
}

fn text(plan: &Plan<'_>, address: &str, memory: u64, qemu: &Path) -> String {
    let Places { state, run, memory: memory_dir, root, .. } = plan.places;
    let (first, last) = PORTS;
    let networks = if *root {
        "# Bridges that VMs may be plugged into.\nbridges = []\n"
    } else {
        "# Networks of QEMU's own: VMs reach out, and nobody reaches in.\n\
         user_networks = [\"user\"]\n"
    };
    format!(
        "# Every field is explained in docs/configuration.md.\n\
         host = {host}\n\
         address = \"{address}\"\n\
         carrier_ports = [{first}, {last}]\n\
         controller = {controller}\n\
         ca = {ca}\n\
         cert = {cert}\n\
         key = {key}\n\
         state_dir = {state}\n\
         run_dir = {run}\n\
         memory_dir = {memory_dir}\n\
         # Half of this machine's memory.\n\
         memory_size = \"{memory}MiB\"\n\
         qemu = {qemu}\n\
         {networks}\n\
         # Folders with disks and kernels, by name. A folder that VMs move with has to be\n\
         # the same on every host.\n\
         [pools]\n",
        host = quoted(plan.host.as_str()),
        controller = quoted(plan.controller),
        ca = path(plan.ca),
        cert = path(plan.cert),
        key = path(plan.key),
        state = path(state),
        run = path(run),
        memory_dir = path(memory_dir),
        qemu = path(qemu),
    )
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The address from which this machine reaches the controller. Nothing is sent.
fn own_address(controller: &str) -> Option<String> {
    let authority = controller.strip_prefix("https://")?.trim_end_matches('/');
    let authority =
        if authority.contains(':') { authority.to_owned() } else { format!("{authority}:7443") };
    let peer = authority.to_socket_addrs().ok()?.next()?;
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    let own = socket.local_addr().ok()?.ip();
    Some(own.to_string())
}

/// In MiB.
fn half_of_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    (total.unwrap_or(2 << 20) / 1024 / 2).max(64)
}

fn qemu() -> PathBuf {
    let found = QEMUS.iter().find(|path| Path::new(path).exists());
    found.unwrap_or(&QEMUS[0]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use agent::AgentConfig;

    #[test]
    fn what_is_written_is_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        for root in [true, false] {
            let places = Places {
                config: "/etc/a \"b\"".into(),
                state: "/var/lib/godwit".into(),
                run: "/run/godwit".into(),
                memory: "/run/godwit/memory".into(),
                root,
            };
            let plan = Plan {
                host: &"host-a".parse().unwrap(),
                controller: "https://127.0.0.1:7443",
                ca: &places.config.join("ca.pem"),
                cert: &places.config.join("host-a.pem"),
                key: &places.config.join("host-a.key"),
                places: &places,
            };
            let _ = std::fs::remove_file(&file);
            write(&file, &plan).unwrap();
            let config = files::config(&file, AgentConfig::check).unwrap();
            assert_eq!(config.address, "127.0.0.1");
            assert_eq!(config.key, places.config.join("host-a.key"));
            assert_eq!(config.user_networks.len(), usize::from(!root));
            // It is the administrator's from then on.
            std::fs::write(&file, "mine").unwrap();
            write(&file, &plan).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        }
    }
}
