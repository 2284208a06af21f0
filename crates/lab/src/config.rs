//! The configuration files of the lab's programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use types::{Bytes, HostId, Outage};

use crate::mounts::View;
use crate::plan::CONTROLLER_PORT;
use crate::proxy;
use crate::state::{Places, State};
use crate::supervise;
use crate::{LabError, UpOptions};

/// Makes the directories of a lab and all its configuration files.
pub(crate) fn write(places: &Places, state: &State, options: &UpOptions) -> Result<(), LabError> {
    for dir in [
        places.tls(),
        places.logs(),
        places.run(),
        places.controller(),
        places.images(),
        places.shared(),
        places.devices(),
    ] {
        make(&dir)?;
    }
    write_controller(places, state, options)?;
    for (number, host) in state.plan.hosts() {
        write_host(places, state, options, number, &host)?;
    }
    if state.proxy { write_proxy(places, state, options) } else { Ok(()) }
}

/// Configuration of the supervisor of `name`.
pub(crate) fn supervisor(places: &Places, name: &str) -> PathBuf {
    places.run().join(format!("{name}.json"))
}

/// The program that the supervisor of `name` runs, itself too.
pub(crate) fn program(places: &Places, name: &str) -> Result<PathBuf, LabError> {
    let file = supervisor(places, name);
    supervise::Config::read(&file).map(|config| config.program)
}

#[derive(Serialize)]
struct Controller {
    listen: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    store: PathBuf,
}

fn write_controller(places: &Places, state: &State, options: &UpOptions) -> Result<(), LabError> {
    let tls = places.tls();
    let dir = places.controller();
    let file = dir.join("controller.toml");
    let config = Controller {
        listen: format!("{}:{CONTROLLER_PORT}", state.plan.outside()),
        ca: tls.join("ca.pem"),
        cert: tls.join("controller.pem"),
        key: tls.join("controller.key"),
        store: dir.join("store.redb"),
    };
    write_toml(&file, &config)?;
    let args = vec!["controller".into(), "--config".into(), file.display().to_string()];
    write_supervisor(places, options, "controller", None, args)
}

#[derive(Serialize)]
struct Agent {
    host: HostId,
    address: String,
    advertise: Option<String>,
    carrier_ports: [u16; 2],
    controller: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    state_dir: PathBuf,
    run_dir: PathBuf,
    memory_dir: PathBuf,
    memory_size: Bytes,
    hugepages_dir: Option<PathBuf>,
    hugepages_size: Option<Bytes>,
    qemu: PathBuf,
    qemu_data: Vec<PathBuf>,
    accel: Option<String>,
    data_plane: Option<String>,
    retain_seconds: Option<u32>,
    bridges: Vec<String>,
    pools: BTreeMap<String, PathBuf>,
    device_pools: BTreeMap<String, PathBuf>,
    outage: Option<Outage>,
}

fn write_host(
    places: &Places,
    state: &State,
    options: &UpOptions,
    number: u8,
    host: &HostId,
) -> Result<(), LabError> {
    let plan = state.plan;
    let dir = places.host(host.as_str());
    let tls = dir.join("tls");
    let (state_dir, run_dir, memory_dir) = (dir.join("state"), dir.join("run"), dir.join("memory"));
    for dir in [&tls, &state_dir, &run_dir, &memory_dir] {
        make(dir)?;
    }
    let ports = plan.carrier_ports();
    let (qemu, qemu_data) = options.qemu_of(host)?;
    let huge = options.hugepages.0 > 0;
    let config = Agent {
        host: host.clone(),
        address: plan.host(number).to_string(),
        advertise: state.proxy.then(|| state.advertised(number).to_string()),
        carrier_ports: [*ports.start(), *ports.end()],
        controller: plan.controller_url(),
        ca: tls.join("ca.pem"),
        cert: tls.join(format!("{host}.pem")),
        key: tls.join(format!("{host}.key")),
        state_dir,
        run_dir,
        memory_dir,
        memory_size: options.memory,
        hugepages_dir: huge.then(|| dir.join("huge")),
        hugepages_size: huge.then_some(options.hugepages),
        qemu,
        qemu_data,
        accel: options.accel.clone(),
        data_plane: options.data_plane.clone(),
        retain_seconds: options.retain_seconds,
        bridges: vec!["br0".into()],
        pools: [("images".into(), places.images()), ("shared".into(), places.shared())].into(),
        device_pools: [("devices".into(), places.devices())].into(),
        outage: options.outage,
    };
    let file = dir.join("agent.toml");
    write_toml(&file, &config)?;
    let view = View {
        lab: places.dir.clone(),
        writable: vec![dir, places.shared()],
        readable: vec![places.images(), places.devices()],
    };
    let args = vec!["agent".into(), "--config".into(), file.display().to_string()];
    write_supervisor(places, options, host.as_str(), Some(view), args)
}

fn write_proxy(places: &Places, state: &State, options: &UpOptions) -> Result<(), LabError> {
    let plan = state.plan;
    let ports = plan.carrier_ports();
    let hosts = plan.hosts().map(|(number, host)| proxy::Front {
        host,
        listen: plan.proxy(number),
        target: plan.host(number),
        ports: (*ports.start(), *ports.end()),
    });
    let config = proxy::Config { control: places.proxy_socket(), hosts: hosts.collect() };
    let file = places.run().join("fronts.json");
    write_json(&file, &config)?;
    let args = vec!["lab-proxy".into(), "--config".into(), file.display().to_string()];
    write_supervisor(places, options, "proxy", None, args)
}

fn write_supervisor(
    places: &Places,
    options: &UpOptions,
    name: &str,
    view: Option<View>,
    args: Vec<String>,
) -> Result<(), LabError> {
    let program = options.godwit.clone();
    let points = options.points.iter().map(|socket| socket.display().to_string());
    let env = points.map(|socket| (crate::points::SOCKET.to_owned(), socket)).collect();
    let config = supervise::Config { name: name.into(), view, program, args, env };
    write_json(&supervisor(places, name), &config)
}

fn make(dir: &Path) -> Result<(), LabError> {
    fs::create_dir_all(dir).map_err(LabError::file("make", dir))
}

fn write_toml(file: &Path, config: &impl Serialize) -> Result<(), LabError> {
    let text = toml::to_string(config).map_err(|e| unwritable(file, &e))?;
    fs::write(file, text).map_err(LabError::file("write", file))
}

fn write_json(file: &Path, config: &impl Serialize) -> Result<(), LabError> {
    let text = serde_json::to_string_pretty(config).map_err(|e| unwritable(file, &e))?;
    fs::write(file, text).map_err(LabError::file("write", file))
}

fn unwritable(file: &Path, error: &dyn std::error::Error) -> LabError {
    LabError::Damaged { path: file.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    #[test]
    fn configurations_are_as_the_programs_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        let state = State::new(Plan::new(77, 2).unwrap(), None, true);
        let mut options = UpOptions::new(dir.path());
        options.accel = Some("tcg".into());
        options.qemu = Some("/bin/sh".into());
        let qemu = Path::new("/bin/sh").canonicalize().unwrap();
        write(&places, &state, &options).unwrap();
        let root = dir.path().display().to_string();
        let read =
            |file: &str| fs::read_to_string(dir.path().join(file)).unwrap().replace(&root, "/lab");
        assert_eq!(
            read("controller/controller.toml"),
            "listen = \"10.77.0.1:7443\"\n\
             ca = \"/lab/tls/ca.pem\"\n\
             cert = \"/lab/tls/controller.pem\"\n\
             key = \"/lab/tls/controller.key\"\n\
             store = \"/lab/controller/store.redb\"\n"
        );
        assert_eq!(
            read("hosts/host-b/agent.toml").replace(&qemu.display().to_string(), "/usr/bin/qemu"),
            "host = \"host-b\"\n\
             address = \"10.77.0.12\"\n\
             advertise = \"10.77.0.112\"\n\
             carrier_ports = [16000, 16031]\n\
             controller = \"https://10.77.0.1:7443\"\n\
             ca = \"/lab/hosts/host-b/tls/ca.pem\"\n\
             cert = \"/lab/hosts/host-b/tls/host-b.pem\"\n\
             key = \"/lab/hosts/host-b/tls/host-b.key\"\n\
             state_dir = \"/lab/hosts/host-b/state\"\n\
             run_dir = \"/lab/hosts/host-b/run\"\n\
             memory_dir = \"/lab/hosts/host-b/memory\"\n\
             memory_size = 4294967296\n\
             qemu = \"/usr/bin/qemu\"\n\
             qemu_data = []\n\
             accel = \"tcg\"\n\
             bridges = [\"br0\"]\n\
             \n\
             [pools]\n\
             images = \"/lab/images\"\n\
             shared = \"/lab/shared\"\n\
             \n\
             [device_pools]\n\
             devices = \"/lab/devices\"\n"
        );
        assert!(dir.path().join("hosts/host-a/memory").is_dir());
        assert!(read("run/fronts.json").contains("10.77.0.112"));
    }
}
