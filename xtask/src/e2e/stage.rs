//! What every scenario has at hand: a lab, VMs of its own, moves and checks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::body::{StartRequest, VmView};
use serde::Serialize;
use serde_json::{Map, Value};
use types::{Mode, RunState, VmName, VmSpec};

use crate::fleet::{Fleet, Moved, Order};
use crate::proc;

/// Longest until a VM is in the state asked for.
const SOON: Duration = Duration::from_secs(60);

/// A lab with what one scenario has put into it.
pub(super) struct Stage {
    /// The lab.
    pub(super) fleet: Fleet,
    /// The long form was asked for.
    pub(super) long: bool,
    /// How memory must travel here.
    pub(super) mode: Mode,
    count: Option<u32>,
    measured: Map<String, Value>,
}

impl Stage {
    pub(super) fn new(fleet: Fleet, mode: Mode, long: bool, count: Option<u32>) -> Self {
        Self { fleet, long, mode, count, measured: Map::new() }
    }

    /// How many moves there, and as many back.
    pub(super) fn rounds(&self) -> u32 {
        self.count.unwrap_or(if self.long { 10 } else { 1 })
    }

    /// Notes a number for the summary.
    pub(super) fn measure(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.measured.insert(name.to_owned(), value);
    }

    /// Creates a VM and starts it on a host.
    ///
    /// # Errors
    /// It is refused, or does not run within a minute.
    pub(super) fn start(&mut self, spec: &VmSpec, on: &str) -> Result<VmName> {
        let vm = spec.name.clone();
        let request = StartRequest { on: Some(on.parse()?), ..StartRequest::default() };
        self.fleet.ask(async |c| c.create_vm(spec).await)?;
        self.fleet.ask(async |c| c.start(&vm, &request).await)?;
        self.wait(&vm, RunState::Running)?;
        Ok(vm)
    }

    /// What the controller shows of a VM.
    ///
    /// # Errors
    /// No such VM, or no answer.
    pub(super) fn view(&self, vm: &VmName) -> Result<VmView> {
        self.fleet.ask(async |c| c.vm(vm).await)
    }

    /// The host that owns a VM.
    ///
    /// # Errors
    /// Nobody does.
    pub(super) fn owner(&self, vm: &VmName) -> Result<String> {
        let ownership = self.view(vm)?.ownership.with_context(|| format!("nobody owns {vm}"))?;
        Ok(ownership.owner.to_string())
    }

    /// The host of the two that does not own a VM.
    ///
    /// # Errors
    /// Nobody owns it.
    pub(super) fn not_owner(&self, vm: &VmName) -> Result<&'static str> {
        Ok(if self.owner(vm)? == "host-a" { "host-b" } else { "host-a" })
    }

    /// Waits until a VM's owner sees it in `state`.
    ///
    /// # Errors
    /// Not within a minute, or the agent tells of an error.
    pub(super) fn wait(&self, vm: &VmName, state: RunState) -> Result<()> {
        let mut last = None;
        let result = proc::until(&format!("{vm} {state}"), SOON, || {
            let view = self.view(vm)?;
            if let Some(error) = view.error {
                bail!("{vm}: {error}");
            }
            last = view.state;
            Ok((view.state == Some(state)).then_some(()))
        });
        result.with_context(|| format!("{vm} was last seen as {last:?}"))
    }

    /// Pauses a running VM for as long as `look` takes.
    ///
    /// # Errors
    /// It does not pause or go on, or what `look` says.
    pub(super) fn paused<T>(
        &self,
        vm: &VmName,
        look: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        self.fleet.ask(async |c| c.pause(vm).await)?;
        self.wait(vm, RunState::Paused)?;
        let seen = look(self)?;
        self.fleet.ask(async |c| c.resume(vm).await)?;
        self.wait(vm, RunState::Running)?;
        Ok(seen)
    }

    /// Moves a VM and checks what is true of every move.
    ///
    /// # Errors
    /// The move does not complete, or something is not as it should be.
    pub(super) fn hop(&self, vm: &VmName, to: &str) -> Result<Moved> {
        self.hop_with(&Order::to(vm.as_str(), to))
    }

    /// Like [`Self::hop`], with the order's own wishes.
    ///
    /// # Errors
    /// As there.
    pub(super) fn hop_with(&self, order: &Order<'_>) -> Result<Moved> {
        let vm: VmName = order.vm.parse()?;
        let from = self.owner(&vm)?;
        let before = self.view(&vm)?.state;
        let moved = self.fleet.migrate(order)?;
        let report = &moved.report;
        ensure!(
            report.mode == Some(self.mode),
            "the memory of {vm} travelled as {:?} and should have as {}",
            report.mode,
            self.mode
        );
        ensure!(
            report.from.as_str() == from && Some(report.to.as_str()) == order.to,
            "the report says {} to {}; it was {from} to {:?}",
            report.from,
            report.to,
            order.to
        );
        // A paused VM has no blackout.
        let stopped = before != Some(RunState::Running);
        ensure!(
            (stopped || report.blackout_seconds.is_some_and(|s| s > 0.0))
                && report.total_seconds.is_some(),
            "the report lacks times: {report:?}"
        );
        if order.verify {
            ensure!(report.state_equal == Some(true), "both sides' state differs: {report:?}");
        }
        let view = self.view(&vm)?;
        let ownership = view.ownership.context("nobody owns it")?;
        ensure!(
            ownership.owner == report.to && ownership.settled && ownership.attempt.is_none(),
            "the record is not settled on {}: {ownership:?}",
            report.to
        );
        ensure!(view.state == before, "{vm} was {before:?} and is {:?} now", view.state);
        self.nothing_left(&vm, &from)?;
        Ok(moved)
    }

    /// Wants nothing of a VM on a host: no QEMU, carrier, tap, memory file, folder.
    ///
    /// # Errors
    /// What is left, after a few seconds.
    pub(super) fn nothing_left(&self, vm: &VmName, host: &str) -> Result<()> {
        let mut left = Vec::new();
        let result = proc::until("nothing left", Duration::from_secs(10), || {
            left = self.remains(vm, host)?;
            Ok(left.is_empty().then_some(()))
        });
        result.with_context(|| format!("of {vm} is left on {host}: {}", left.join(", ")))
    }

    /// What there is of a VM on a host. A lab's scenario has one VM at a time,
    /// so every QEMU, carrier and tap is that VM's.
    fn remains(&self, vm: &VmName, host: &str) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let processes = lab::processes(self.fleet.dir(), host)?;
        left.extend(processes.qemus.iter().map(|p| format!("QEMU {}", p.pid)));
        left.extend(processes.carriers.iter().map(|p| format!("carrier {}", p.pid)));
        let mut ip = lab::command_in(self.fleet.dir(), host, "ip")?;
        let links = proc::output(ip.args(["-o", "link", "show", "type", "tun"]), SOON)?;
        left.extend(links.lines().map(|l| format!("tap {l}")));
        let id = self.view(vm)?.spec.uuid.context("no UUID")?.to_string();
        // Sockets lie under the UUID's beginning; logs stay, and are elsewhere.
        let pattern = format!("*{}*", &id[..8]);
        let mut find = lab::command_in(self.fleet.dir(), host, "find")?;
        let folders = ["run", "memory", "huge", "state/journal"];
        // Only labs with huge pages have a folder for them.
        find.args(folders.map(|f| self.host_dir(host).join(f)).iter().filter(|f| f.exists()));
        let files = proc::output(find.args(["-name", &pattern]), SOON)?;
        left.extend(files.lines().map(|l| format!("file {l}")));
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{id}*")]);
        // Groups come and go while it looks; then it complains, and still tells the rest.
        let groups = proc::Running::start(&mut find, proc::Messages::Kept)?.wait(SOON)?.stdout;
        for group in groups.lines() {
            let members = std::fs::read_to_string(Path::new(group).join("cgroup.procs"));
            if members.is_ok_and(|m| m.trim().is_empty()) {
                left.push(format!("control group {group}"));
            }
        }
        Ok(left)
    }

    /// A host's own folder, as seen from outside; mounts in it are not seen.
    pub(super) fn host_dir(&self, host: &str) -> PathBuf {
        self.fleet.host_dir(host)
    }

    /// The folder of files that all hosts see as the pool `shared`.
    pub(super) fn shared(&self) -> PathBuf {
        self.fleet.dir().join("shared")
    }

    /// Where a VM's serial logs lie on any host, and their last lines.
    pub(super) fn console(&self, vm: &VmName) -> String {
        let logs = self.serial_logs(vm).unwrap_or_default();
        logs.iter().fold(format!("the console of {vm}:\n"), |all, (_, text)| {
            let lines: Vec<&str> = text.lines().collect();
            all + &lines[lines.len().saturating_sub(15)..].join("\n") + "\n"
        })
    }

    /// What the console of a VM has written on the host that owns it.
    ///
    /// # Errors
    /// There is no log.
    pub(super) fn console_text(&self, vm: &VmName) -> Result<String> {
        let owner = self.owner(vm)?;
        let mut logs = self.serial_logs(vm)?.into_iter();
        let (_, text) = logs
            .find(|(host, _)| *host == owner)
            .with_context(|| format!("no serial log of {vm} on {owner}"))?;
        Ok(text)
    }

    /// A VM's serial logs: host and text, for each host that has one.
    ///
    /// # Errors
    /// A log cannot be read.
    pub(super) fn serial_logs(&self, vm: &VmName) -> Result<Vec<(String, String)>> {
        let id = self.view(vm)?.spec.uuid.context("no UUID")?.to_string();
        let mut logs = Vec::new();
        for (_, host) in self.fleet.plan().hosts() {
            let mut folders = vec![self.host_dir(host.as_str())];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(&folder)?.flatten() {
                    let path = entry.path();
                    if entry.file_type()?.is_dir() {
                        folders.push(path);
                    } else if path.to_string_lossy().contains(&id) && path.ends_with("serial.log") {
                        let text = std::fs::read(&path)?;
                        logs.push((host.to_string(), String::from_utf8_lossy(&text).into_owned()));
                    }
                }
            }
        }
        Ok(logs)
    }

    /// The memory file of a VM on a host, as a path that can be opened from here.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn memory_file(&self, vm: &VmName, host: &str) -> Result<PathBuf> {
        self.fleet.memory_file(vm, host)
    }

    /// Stops and removes every VM, and wants nothing left of it anywhere.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(super) fn clear(&mut self) -> Result<()> {
        for view in self.fleet.ask(async |c| c.vms().await)? {
            let vm = view.spec.name;
            if view.state.is_some_and(|s| s != RunState::Stopped) {
                self.fleet.ask(async |c| c.stop(&vm).await)?;
                self.wait(&vm, RunState::Stopped)?;
            }
            for (_, host) in self.fleet.plan().hosts() {
                let left = self.left_running(host.as_str())?;
                ensure!(left.is_empty(), "{vm} is stopped, and {host} has {}", left.join(", "));
            }
            self.fleet.ask(async |c| c.delete_vm(&vm).await)?;
            for disk in view.spec.disks.iter().filter(|d| d.pool.as_str() == lab::specs::SHARED) {
                let file = self.shared().join(disk.file.as_str());
                std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
            }
        }
        Ok(())
    }

    fn left_running(&self, host: &str) -> Result<Vec<String>> {
        let processes = lab::processes(self.fleet.dir(), host)?;
        let all = processes.qemus.iter().chain(&processes.carriers);
        Ok(all.map(|p| format!("process {}", p.pid)).collect())
    }

    /// Gives the lab back, with what was measured.
    pub(super) fn strike(self) -> (Fleet, Map<String, Value>) {
        (self.fleet, self.measured)
    }
}
