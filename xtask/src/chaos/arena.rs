//! A lab with one tiny guest, watched from outside, on which faults are made.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::body::{MigrateRequest, StartRequest, VmView};
use lab::images::TinyOptions;
use lab::specs;
use types::{Bytes, Outcome, Rate, RunState, VmName};

use super::cells::{Cell, Fault, Party};
use super::disk::Disk;
use super::fault::{CancelBy, Hands};
use super::points::Trigger;
use super::witness::{Sight, Witness, Wrong};
use crate::fleet::{Fleet, Parts, Shape};
use crate::proc;

const HOSTS: [&str; 2] = ["host-a", "host-b"];
const VM: &str = "tiny";

/// Longest until an attempt without a fault has come to its point.
const REACH: Duration = Duration::from_secs(30);
/// What comes after the record is settled: the source releases the VM.
const RELEASE: Duration = Duration::from_secs(4);
/// Longest until a VM is whole again after a fault has ended.
const RECOVER: Duration = Duration::from_secs(90);
/// A heartbeat may be read this much after it was written.
const LATE: Duration = Duration::from_millis(50);

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// The point was reached and the fault made.
    pub(super) struck: bool,
    /// The VM ended with the host or QEMU that was made to end, as it must.
    pub(super) crashed: bool,
    /// From the fault's end until the VM ran and no attempt held it.
    pub(super) recovery: Option<Duration>,
    /// The longest silence of the guest while no fault lasted.
    pub(super) in_doubt: Duration,
    /// What must never be.
    pub(super) violations: Vec<Violation>,
}

/// Something that must never be, and how it was seen.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) what: String,
}

/// The kinds that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// No QEMU holds the VM any more, although none was made to end.
    Lost,
    /// It ran on two hosts.
    Duplicated,
    /// An older state ran, or memory or disk is not whole.
    Stale,
    /// Something is left where the VM is not, or too much where it is.
    Leaked,
    /// It rests although its host lived.
    StoppedNeedlessly,
}

/// One lab.
pub(super) struct Arena {
    fleet: Fleet,
    godwit: PathBuf,
    trigger: Trigger,
    witness: Witness,
    disk: Disk,
    vm: VmName,
    room: tempfile::TempDir,
}

impl Arena {
    /// Brings a lab up on the network 10.`net`.0.0/16 and starts its guest.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) fn up(godwit: &Path, parts: &Parts, net: u8) -> Result<Self> {
        let room = tempfile::Builder::new().prefix("gw-chaos-").tempdir_in("/tmp")?;
        // Seen from the lab's hosts, whatever user they run QEMU as.
        let sockets = room.path().join("nbd");
        let qemu = stand_in(room.path(), &sockets, parts.qemu.as_deref())?;
        let points = room.path().join("points");
        let trigger = Trigger::listen(&points)?;
        let parts = Parts { qemu: Some(qemu), net, ..parts.clone() };
        let shape = Shape {
            proxy: true,
            // A copy that takes a second, so that it has a middle.
            link: Some(Rate(200_000_000)),
            points: Some(points),
            memory: Bytes::mib(256),
            ..Shape::plain(&parts)
        };
        let fleet = Fleet::up(godwit, &shape)?;
        let image = fleet.dir().join("shared").join(specs::tiny_file(VM));
        lab::images::tiny(
            &image,
            &TinyOptions { rate: 50, rewrite: 64, ..TinyOptions::default() },
        )?;
        let disk = Disk::serve(&image, &HOSTS, |host| {
            let mut name = sockets.clone().into_os_string();
            name.push(format!("-{host}"));
            name.into()
        })?;
        trigger.place(namespaces(&fleet)?);
        let vm: VmName = VM.parse()?;
        let spec = specs::tiny(VM, Bytes::mib(24))?;
        let made = fleet.ask(async |c| c.create_vm(&spec).await)?;
        let id = made.spec.uuid.context("the VM has no UUID")?.to_string();
        let log = |host: &str| fleet.host_dir(host).join("state/vms").join(&id).join("serial.log");
        let witness = Witness::watch(HOSTS.iter().map(|host| log(host)).collect());
        let godwit = godwit.to_owned();
        let arena = Self { fleet, godwit, trigger, witness, disk, vm, room };
        arena.start(HOSTS[0])?;
        Ok(arena)
    }

    /// One migration with one fault.
    ///
    /// # Errors
    /// The lab itself fails; what Godwit does wrong is in the answer.
    pub(super) fn run(&self, cell: &Cell) -> Result<Ended> {
        let from = self.owner()?;
        let to = HOSTS.into_iter().find(|host| *host != from).context("no other host")?;
        self.witness.begin();
        self.disk.take();
        let host = match cell.party {
            Party::Source | Party::SourceCarrier | Party::Controller => from.clone(),
            Party::Destination | Party::DestinationCarrier => to.to_owned(),
        };
        let hands = Hands {
            dir: self.fleet.dir().to_owned(),
            fault: cell.fault,
            host: host.clone(),
            to: to.to_owned(),
            cancel: self.cancel_by(),
        };
        let struck = self.trigger.arm(&from, cell.party, cell.point, hands);
        let request =
            MigrateRequest { to: Some(to.parse()?), verify: false, blackout_budget_ms: Some(1000) };
        // An answer that the fault cut off is no trouble: the record tells.
        let _ = self.fleet.ask(async |c| c.migrate(&self.vm, &request).await);
        let struck = self.wait_for(&struck)?;
        self.trigger.disarm();
        let mut ended = Ended { struck: struck.is_some(), ..Ended::default() };
        let over = struck.map_or_else(Instant::now, |at| at + cell.fault.lasts());
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
        self.recover(cell, &host, over, &mut ended)?;
        self.judge(&mut ended)?;
        Ok(ended)
    }

    fn wait_for(
        &self,
        struck: &std::sync::mpsc::Receiver<super::points::Struck>,
    ) -> Result<Option<Instant>> {
        let limit = Instant::now() + REACH;
        let mut over = None;
        loop {
            match struck.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => {
                    if let Some(why) = done.failed {
                        // Such as no QEMU to kill yet: this cell does not fit this run.
                        eprintln!("not struck: {why}");
                        return Ok(None);
                    }
                    return Ok(Some(done.at));
                }
                Err(_) if Instant::now() > limit => return Ok(None),
                Err(_) => proc::alive()?,
            }
            // The attempt is over, for the record and for the source, and never came there.
            if let Ok(view) = self.view()
                && view.ownership.as_ref().is_some_and(|o| o.attempt.is_none() && o.settled)
                && over.get_or_insert_with(Instant::now).elapsed() > RELEASE
                && self.trigger.disarm()
            {
                return Ok(None);
            }
        }
    }

    /// Waits until the VM runs and nothing is under way, or has ended as it must.
    fn recover(&self, cell: &Cell, host: &str, over: Instant, ended: &mut Ended) -> Result<()> {
        let ends_vm = matches!(cell.fault, Fault::KillQemu | Fault::HostDeath) && ended.struck;
        let limit = Instant::now() + RECOVER;
        let mut last = String::new();
        while Instant::now() < limit {
            proc::alive()?;
            match self.view() {
                Ok(view) => {
                    last =
                        format!("{:?}, seen as {:?}, {:?}", view.ownership, view.state, view.error);
                    let free =
                        view.ownership.as_ref().is_some_and(|o| o.attempt.is_none() && o.settled);
                    let owner = view.ownership.as_ref().map(|o| o.owner.to_string());
                    let beats = self.beats_on(owner.as_deref(), over + LATE);
                    let whole = Instant::now();
                    if free && view.state == Some(RunState::Running) && beats && self.goes_on() {
                        ended.recovery = Some(whole.saturating_duration_since(over));
                        return Ok(());
                    }
                    let dead = view.state == Some(RunState::Stopped);
                    if free && dead && ends_vm && owner.as_deref() == Some(host) {
                        ended.crashed = true;
                        self.check_sight(&mut ended.violations);
                        return self.again(host);
                    }
                }
                Err(e) => last = format!("{e:#}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let lives = HOSTS
            .iter()
            .any(|h| lab::processes(self.fleet.dir(), h).is_ok_and(|p| !p.qemus.is_empty()));
        let kind = if lives { Kind::StoppedNeedlessly } else { Kind::Lost };
        let what = format!("after {} s: {last}", RECOVER.as_secs());
        ended.violations.push(Violation { kind, what });
        Ok(())
    }

    /// Whether the guest has beaten after a moment and just now, on a host.
    fn beats_on(&self, owner: Option<&str>, after: Instant) -> bool {
        self.witness.sight().last.is_some_and(|(host, at)| {
            let now = at > after && at.elapsed() < Duration::from_millis(200);
            HOSTS.get(host).copied() == owner && now
        })
    }

    /// Whether the guest goes on: heartbeats may be read late, and be the last ones.
    fn goes_on(&self) -> bool {
        let before = self.witness.sight().counter;
        std::thread::sleep(Duration::from_millis(200));
        self.witness.sight().counter > before.saturating_add(1)
    }

    /// Starts a VM again that crashed.
    fn again(&self, host: &str) -> Result<()> {
        self.fleet.ask(async |c| c.stop(&self.vm).await).or_else(|_| self.view())?;
        self.start(host)
    }

    fn start(&self, host: &str) -> Result<()> {
        let request = StartRequest { on: Some(host.parse()?), ..StartRequest::default() };
        self.witness.anew();
        let begun = Instant::now();
        proc::until("the start is taken", Duration::from_secs(30), || {
            Ok(self.fleet.ask(async |c| c.start(&self.vm, &request).await).ok())
        })?;
        proc::until("the guest's heartbeat", Duration::from_secs(60), || {
            Ok(self.beats_on(Some(host), begun).then_some(()))
        })?;
        self.disk.take();
        Ok(())
    }

    /// What all that was seen means.
    fn judge(&self, ended: &mut Ended) -> Result<()> {
        let sight = self.witness.sight();
        ended.in_doubt = sight.longest;
        let mut violations = std::mem::take(&mut ended.violations);
        self.check_sight(&mut violations);
        let writers = self.disk.take();
        let mut hosts: Vec<&str> = writers.iter().map(|w| w.host.as_str()).collect();
        let count = hosts.len();
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.len() != count && !ended.crashed {
            let what = format!("hosts wrote to the disk in turn: {writers:?}");
            violations.push(Violation { kind: Kind::Duplicated, what });
        }
        if violations.is_empty() {
            self.check_state(&mut violations)?;
            self.check_leaks(&mut violations)?;
        }
        ended.violations = violations;
        Ok(())
    }

    fn check_sight(&self, violations: &mut Vec<Violation>) {
        let Sight { wrong, .. } = self.witness.sight();
        violations.extend(wrong.into_iter().map(|wrong| match wrong {
            Wrong::Duplicated(what) => Violation { kind: Kind::Duplicated, what },
            Wrong::Stale(what) => Violation { kind: Kind::Stale, what },
        }));
    }

    /// Memory and disk, word for word, while the guest rests for a moment.
    fn check_state(&self, violations: &mut Vec<Violation>) -> Result<()> {
        self.fleet.ask(async |c| c.pause(&self.vm).await)?;
        self.wait(RunState::Paused)?;
        let checked = self.whole();
        self.fleet.ask(async |c| c.resume(&self.vm).await)?;
        self.wait(RunState::Running)?;
        if let Err(e) = checked {
            violations.push(Violation { kind: Kind::Stale, what: format!("{e:#}") });
        }
        Ok(())
    }

    fn whole(&self) -> Result<()> {
        let owner = self.owner()?;
        let mut memory = File::open(self.fleet.memory_file(&self.vm, &owner)?)?;
        let head = guest::tiny::check(&mut memory).context("the memory is not whole")?;
        let mut disk = File::open(self.fleet.dir().join("shared").join(specs::tiny_file(VM)))?;
        lab::images::check_tiny_disk(&mut disk, head.disk).context("the disk is not whole")?;
        Ok(())
    }

    /// One QEMU where the VM is, and nothing else anywhere.
    fn check_leaks(&self, violations: &mut Vec<Violation>) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.leaks()?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                violations.push(Violation { kind: Kind::Leaked, what: left.join(", ") });
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn leaks(&self) -> Result<Vec<String>> {
        let owner = self.owner()?;
        let id = self.view()?.spec.uuid.context("the VM has no UUID")?.to_string();
        let mut left = Vec::new();
        for host in HOSTS {
            let here = usize::from(host == owner);
            let seen = lab::processes(self.fleet.dir(), host)?;
            let mut find = lab::command_in(self.fleet.dir(), host, "find")?;
            for folder in ["run", "memory", "state/journal"] {
                find.arg(self.fleet.host_dir(host).join(folder));
            }
            find.args(["-maxdepth", "1", "-name", &format!("*{}*", &id[..8])]);
            let files = proc::output(&mut find, Duration::from_secs(20))?;
            let mut count = |what: &str, found: usize, may: usize| {
                if found != may {
                    left.push(format!("{host} has {found} {what}, not {may}"));
                }
            };
            count("QEMUs", seen.qemus.len(), here);
            count("carriers", seen.carriers.len(), 0);
            count("strange processes", seen.others.len(), 0);
            for folder in ["run", "memory", "journal"] {
                let in_it = format!("/{folder}/");
                count(folder, files.lines().filter(|f| f.contains(&in_it)).count(), here);
            }
        }
        Ok(left)
    }

    fn wait(&self, state: RunState) -> Result<()> {
        proc::until(&format!("the VM {state}"), Duration::from_secs(30), || {
            Ok((self.view()?.state == Some(state)).then_some(()))
        })
    }

    fn view(&self) -> Result<VmView> {
        self.fleet.ask(async |c| c.vm(&self.vm).await)
    }

    fn owner(&self) -> Result<String> {
        let ownership = self.view()?.ownership.context("nobody owns the VM")?;
        Ok(ownership.owner.to_string())
    }

    fn cancel_by(&self) -> CancelBy {
        let env = self.fleet.env().to_vec();
        CancelBy { program: self.godwit.clone(), env, vm: VM.into() }
    }

    /// Moves without a fault and tells which points were reached, and how often.
    ///
    /// # Errors
    /// A move does not complete.
    pub(super) fn survey(&self) -> Result<BTreeMap<String, u64>> {
        let from = self.owner()?;
        let to = HOSTS.into_iter().find(|host| *host != from).context("no other host")?;
        let hands = Hands {
            dir: self.fleet.dir().to_owned(),
            fault: Fault::Cancel,
            host: from.clone(),
            to: to.into(),
            cancel: self.cancel_by(),
        };
        drop(self.trigger.arm(&from, Party::Source, "none", hands));
        let moved = self.fleet.migrate(&crate::fleet::Order::to(VM, to))?;
        ensure!(moved.report.outcome == Some(Outcome::Completed), "the survey's move failed");
        self.trigger.disarm();
        Ok(self.trigger.seen())
    }

    /// The last lines of every log, for a report.
    pub(super) fn logs(&self) -> String {
        self.fleet.logs()
    }

    /// Takes the lab down and wants nothing left of it.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn down(self) -> Result<()> {
        self.fleet.down()?;
        self.room.close().context("the room of the sockets stays")
    }
}

/// The program that the agents take for QEMU.
fn stand_in(room: &Path, sockets: &Path, qemu: Option<&Path>) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    const NAME: &str = "qemu-system-x86_64";
    let real = match qemu {
        Some(path) => path.canonicalize().context("cannot find QEMU")?,
        None => find(NAME).with_context(|| format!("{NAME} is not installed"))?,
    };
    let (Some(sockets), Some(real)) = (sockets.to_str(), real.to_str()) else {
        bail!("paths here are not UTF-8");
    };
    let text = include_str!("qemu.sh").replace("@SOCKETS@", sockets).replace("@QEMU@", real);
    let path = room.join(NAME);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The network namespace of each host.
fn namespaces(fleet: &Fleet) -> Result<BTreeMap<PathBuf, &'static str>> {
    let of = |host: &'static str| {
        let agent = lab::processes(fleet.dir(), host)?.supervisor.context("no supervisor")?;
        Ok((std::fs::read_link(format!("/proc/{}/ns/net", agent.pid))?, host))
    };
    HOSTS.into_iter().map(of).collect()
}
