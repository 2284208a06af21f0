//! The state file: what the lab has made or is about to make, written before it
//! is made, so that `down` finds everything after a crash at any point.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use types::Rate;

use crate::proc::NamespaceId;
use crate::{Identity, LabError, Plan};

const NAME: &str = "lab.json";
const VERSION: u32 = 1;
/// A state file is some kilobytes; anything larger is not one.
const MAX_BYTES: u64 = 1 << 20;

/// Everything that is known about a lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) version: u32,
    /// Id of this lab, different each time; the value of the marker variable.
    pub(crate) id: String,
    /// The kernel's id of the boot it was made in.
    pub(crate) boot: String,
    pub(crate) plan: Plan,
    /// Rate of every host's link; unlimited where absent.
    pub(crate) link: Option<Rate>,
    /// A proxy stands before the carriers.
    pub(crate) proxy: bool,
    /// Namespaces that were made or were about to be.
    pub(crate) namespaces: Vec<Namespace>,
    /// Interfaces of the root namespace that were made or were about to be.
    pub(crate) links: Vec<String>,
    /// Supervisors that were started.
    pub(crate) supervisors: Vec<Supervisor>,
    /// Everything is made and was seen working.
    pub(crate) ready: bool,
}

/// A network namespace of the lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// What it turned out to be once made.
    pub(crate) id: Option<NamespaceId>,
}

impl Namespace {
    /// The file that stands for it, where `ip netns` looks for it.
    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// The namespace behind the name now, if it is the lab's. Somebody may have
    /// taken the name away and given it to another.
    pub(crate) fn current(&self) -> Option<NamespaceId> {
        let now = NamespaceId::of(&self.path())?;
        (self.id.is_none() || self.id == Some(now)).then_some(now)
    }
}

/// A process that starts another one again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Supervisor {
    /// `controller`, `proxy` or a host's name.
    pub(crate) name: String,
    pub(crate) process: Identity,
}

impl State {
    /// A lab of which nothing exists yet.
    pub(crate) fn new(plan: Plan, link: Option<Rate>, proxy: bool) -> Self {
        Self {
            version: VERSION,
            id: uuid::Uuid::new_v4().to_string(),
            boot: boot_id(),
            plan,
            link,
            proxy,
            namespaces: Vec::new(),
            links: Vec::new(),
            supervisors: Vec::new(),
            ready: false,
        }
    }

    /// Whether the machine has not been started anew since: after that, nothing of
    /// the lab but files can be left, and numbers of processes mean nothing.
    pub(crate) fn same_boot(&self) -> bool {
        self.boot == boot_id()
    }

    /// Reads the state of the lab in `dir`; `None` when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, LabError> {
        let path = dir.join(NAME);
        let damaged = |why: String| LabError::Damaged { path: path.clone(), why };
        match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(LabError::file("read", &path)(e)),
            Ok(meta) if meta.len() > MAX_BYTES => return Err(damaged("it is too large".into())),
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(LabError::file("read", &path))?;
        let state: Self = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if state.version != VERSION {
            return Err(damaged(format!(
                "version {} instead of {VERSION}: end this lab with the godwit that made it",
                state.version
            )));
        }
        Ok(Some(state))
    }

    /// The state of the lab that is up in `dir`.
    pub(crate) fn of(dir: &Path) -> Result<Self, LabError> {
        Self::read(dir)?.ok_or_else(|| LabError::NotUp { dir: dir.to_owned() })
    }

    /// Replaces the state file, durably and at once.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(NAME);
        let new = dir.join("lab.json.new");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| LabError::Damaged { path: path.clone(), why: e.to_string() })?;
        let replace = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        replace().map_err(LabError::file("write", &path))
    }

    /// Removes the state file: the last thing `down` does to a directory.
    pub(crate) fn remove(dir: &Path) -> Result<(), LabError> {
        for name in ["lab.json.new", NAME] {
            let path = dir.join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LabError::file("remove", &path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: &str) -> Result<&Namespace, LabError> {
        let host = self.plan.host_named(host)?;
        let name = self.plan.namespace(&host);
        let missing = LabError::NoHost { host: host.into(), known: "not made it yet".into() };
        self.namespaces.iter().find(|n| n.name == name).ok_or(missing)
    }

    /// Where a host's agent's address is told to others: its proxy, or itself.
    pub(crate) fn advertised(&self, number: u8) -> Ipv4Addr {
        if self.proxy { self.plan.proxy(number) } else { self.plan.host(number) }
    }
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The places of a lab directory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) dir: PathBuf,
}

impl Places {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
    /// Certificates of authority, controller and administrator.
    pub(crate) fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }
    pub(crate) fn controller(&self) -> PathBuf {
        self.dir.join("controller")
    }
    /// What only a host sees of the lab besides the pools.
    pub(crate) fn host(&self, host: &str) -> PathBuf {
        self.dir.join("hosts").join(host)
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }
    pub(crate) fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }
    /// Links to block devices that every host has.
    pub(crate) fn devices(&self) -> PathBuf {
        self.dir.join("devices")
    }
    /// Configurations of the supervisors, and the proxy's.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }
    pub(crate) fn proxy_socket(&self) -> PathBuf {
        self.run().join("proxy.sock")
    }
}

/// Holds the lab directory against another `up` or `down`; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for the lock on it")] File);

impl Lock {
    /// Waits at most 10 s for the lock on a directory that exists.
    pub(crate) fn take(dir: &Path) -> Result<Self, LabError> {
        let file = File::open(dir).map_err(LabError::file("open", dir))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(errno) => {
                    let action = format!("lock {}, another lab command works on it", dir.display());
                    return Err(LabError::system(action)(errno));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), None);
        let mut state = State::new(Plan::new(77, 2).unwrap(), Some(Rate(1_000_000_000)), true);
        state.write(dir.path()).unwrap();
        let process = Identity::of(std::process::id()).unwrap();
        state.supervisors.push(Supervisor { name: "controller".into(), process });
        let id = NamespaceId::of("/proc/self/ns/net");
        state.namespaces.push(Namespace { name: "gw-host-b".into(), id });
        state.write(dir.path()).unwrap();
        assert_eq!(State::of(dir.path()).unwrap(), state);
        assert_eq!(state.namespace("host-b").unwrap().path(), "/run/netns/gw-host-b");
        assert!(state.same_boot());
        assert!(matches!(state.namespace("host-c"), Err(LabError::NoHost { .. })));
        State::remove(dir.path()).unwrap();
        assert!(matches!(State::of(dir.path()), Err(LabError::NotUp { .. })));
    }

    #[test]
    fn a_damaged_or_foreign_state_is_said_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let mut foreign = State::new(Plan::new(77, 1).unwrap(), None, false);
        foreign.version = 9;
        for (text, why) in [
            ("".to_owned(), "EOF"),
            ("{\"version\":1}".to_owned(), "missing field"),
            (serde_json::to_string(&foreign).unwrap(), "version 9"),
        ] {
            fs::write(dir.path().join(NAME), text).unwrap();
            let error = State::of(dir.path()).unwrap_err().to_string();
            assert!(error.contains("damaged") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path()).unwrap();
        let file = File::open(dir.path()).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        Lock::take(dir.path()).unwrap();
    }
}
