//! A lab for one test, which is gone at its end whatever happened.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lab::UpOptions;
use types::Bytes;

pub(crate) const STANDIN: &str = env!("CARGO_BIN_EXE_godwit-lab-standin");

/// A path that nothing is at yet.
pub(crate) fn new_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/var/tmp/gwt-{}-{next}", std::process::id()))
}

/// Two hosts of stand-ins, not waited for.
pub(crate) fn options(dir: &Path, net: u8) -> UpOptions {
    let mut options = UpOptions::new(dir);
    options.net = net;
    options.godwit = STANDIN.into();
    options.qemu = Some("/bin/true".into());
    options.memory = Bytes::mib(64);
    options.wait = None;
    options
}

pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
    net: u8,
}

impl Lab {
    pub(crate) fn up(net: u8, change: impl FnOnce(&mut UpOptions)) -> Self {
        let lab = Self { dir: new_dir(), net };
        let mut options = options(&lab.dir, net);
        change(&mut options);
        lab::up(&options).unwrap();
        lab
    }

    pub(crate) fn ip(&self, host: &str) -> String {
        let plan = lab::Plan::new(self.net, 2).unwrap();
        plan.host(plan.number(host).unwrap()).to_string()
    }

    pub(crate) fn address(&self, host: &str, port: u16) -> String {
        format!("{}:{port}", self.ip(host))
    }

    /// What a command in a host prints, without the last newline.
    pub(crate) fn output(&self, host: &str, command: &[&str]) -> String {
        let mut prepared = lab::command_in(&self.dir, host, command[0]).unwrap();
        let out = prepared.args(&command[1..]).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{command:?}: {error}");
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    /// A server in a host that listens already.
    pub(crate) fn serve(&self, host: &str, address: &str) -> Server {
        let mut command = lab::command_in(&self.dir, host, STANDIN).unwrap();
        let mut child = command.args(["serve", address]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        Server(child)
    }

    /// Ends the lab twice, the second time for nothing, and looks for remains.
    pub(crate) fn down(self) {
        lab::down(&self.dir).unwrap();
        nothing_left(&self.dir, self.net);
        lab::down(&self.dir).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = lab::down(&self.dir);
    }
}

pub(crate) struct Server(Child);

impl Server {
    /// Waits for its end.
    pub(crate) fn end(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

/// Control groups as an agent of host-a would have made them for two VMs.
pub(crate) fn groups(lab: &Lab, vms: [&str; 2]) -> [PathBuf; 2] {
    let mounted = Path::new("/sys/fs/cgroup");
    let unified = mounted.join("cgroup.controllers").exists();
    let root = if unified { mounted.to_owned() } else { mounted.join("memory") };
    vms.map(|number| {
        let uuid = format!("0192f0c0-0000-7000-80{number}-{:012}", lab.net);
        fs::create_dir_all(lab.dir.join("hosts/host-a/state/vms").join(&uuid)).unwrap();
        let group = root.join("godwit").join(format!("{uuid}-x1"));
        fs::create_dir_all(&group).unwrap();
        group
    })
}

/// Looks with other means than the lab's own.
pub(crate) fn nothing_left(dir: &Path, net: u8) {
    assert!(!dir.exists());
    let links = fs::read_dir("/sys/class/net").unwrap();
    let names: Vec<_> = links.map(|l| l.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.contains(&format!("gw-lab{net}")), "{names:?}");
    for name in fs::read_dir("/run/netns").into_iter().flatten() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(&format!("gw{net}-")), "{name}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    assert!(!mounts.contains(&format!("/run/netns/gw{net}-")), "{mounts}");
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().into_string().unwrap().parse::<u32>() else {
            continue;
        };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        assert!(!command.contains(dir.to_str().unwrap()), "{pid}: {command}");
    }
}

/// What becomes true within 10 s.
pub(crate) fn eventually<T>(what: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = what();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
