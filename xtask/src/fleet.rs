//! A lab of our own for the time of one task, driven through the binary as a
//! user would drive it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::{Client, ClientConfig, ClientError};
use lab::Plan;
use types::{Bytes, MigrationReport, Outage, Outcome, Rate, VmName};

use crate::check::cargo;
use crate::proc::{self, Messages, Running};
use crate::setup;

/// Longest a command that only asks or records something may take.
const SHORT: Duration = Duration::from_secs(60);
/// Longest a migration may take.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// What a lab should be like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Hosts.
    pub(crate) hosts: usize,
    /// Rate of each link; unshaped without.
    pub(crate) link: Option<Rate>,
    /// What it is made of.
    pub(crate) parts: Parts,
    /// Hosts that have another QEMU.
    pub(crate) newer: Vec<(&'static str, setup::Qemu)>,
    /// Guest memory of each host in huge pages.
    pub(crate) hugepages: Bytes,
    /// A proxy on the links, for delays and cuts.
    pub(crate) proxy: bool,
    /// The agents' `data_plane`.
    pub(crate) data_plane: Option<&'static str>,
    /// How long a VM's memory is kept where it left; the agents' default without.
    pub(crate) retain_seconds: Option<u32>,
    /// How long agents bear a broken link; their default without.
    pub(crate) outage: Option<Outage>,
    /// Guest memory of each host.
    pub(crate) memory: Bytes,
    /// Socket that the fleet's programs tell of points.
    pub(crate) points: Option<PathBuf>,
}

impl Shape {
    /// Two hosts, links as fast as they are, no proxy.
    pub(crate) fn plain(parts: &Parts) -> Self {
        Self {
            hosts: 2,
            link: None,
            parts: parts.clone(),
            newer: Vec::new(),
            hugepages: Bytes(0),
            proxy: false,
            data_plane: None,
            retain_seconds: None,
            outage: None,
            memory: Bytes::mib(6 << 10),
            points: None,
        }
    }
}

/// What the lab is made of, where that is not what is installed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Parts {
    /// QEMU in place of the installed one.
    #[arg(long, value_name = "PATH")]
    pub(crate) qemu: Option<PathBuf>,
    /// Folder where that QEMU finds its firmware; may be given more than once.
    #[arg(long, value_name = "DIR")]
    pub(crate) qemu_data: Vec<PathBuf>,
    /// Kernel of the Linux guests, in place of the distribution's.
    #[arg(long, value_name = "FILE", requires = "initrd")]
    pub(crate) kernel: Option<PathBuf>,
    /// Its initial RAM file system; it has to start `godwit-guest` itself.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub(crate) initrd: Option<PathBuf>,
    /// The lab's network, 10.N.0.0/16.
    #[arg(long, value_name = "N", default_value_t = lab::DEFAULT_NET)]
    pub(crate) net: u8,
}

/// Builds the binary, unless the surroundings name one.
///
/// # Errors
/// It does not build.
pub(crate) fn build(root: &Path, release: bool) -> Result<PathBuf> {
    if let Some(built) = std::env::var_os(setup::BUILT) {
        return Ok(built.into());
    }
    let mut args = vec!["build", "--package", "godwit"];
    if release {
        args.push("--release");
    }
    cargo(root, &args)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let profile = if release { "release" } else { "debug" };
    let godwit = root.join(target).join(profile).join("godwit");
    godwit.canonicalize().with_context(|| format!("{} was not built", godwit.display()))
}

/// A lab that is up; down again when dropped, whatever happened.
pub(crate) struct Fleet {
    dir: PathBuf,
    godwit: PathBuf,
    plan: Plan,
    parts: Parts,
    env: [(&'static str, String); 4],
    client: Client,
    runtime: tokio::runtime::Runtime,
    up: bool,
}

impl Fleet {
    /// Brings a lab up in a directory of its own.
    ///
    /// # Errors
    /// It does not come up; nothing is left of it then.
    pub(crate) fn up(godwit: &Path, shape: &Shape) -> Result<Self> {
        // Short, because the sockets in it have at most 107 bytes of path.
        let dir = PathBuf::from(format!("/var/tmp/gw-{}-{}", std::process::id(), shape.parts.net));
        let mut options = lab::UpOptions::new(&dir);
        options.godwit = godwit.to_owned();
        options.net = shape.parts.net;
        options.hosts = shape.hosts;
        options.link = shape.link;
        options.qemu.clone_from(&shape.parts.qemu);
        options.qemu_data.clone_from(&shape.parts.qemu_data);
        options.proxy = shape.proxy;
        options.data_plane = shape.data_plane.map(str::to_owned);
        options.retain_seconds = shape.retain_seconds;
        options.outage = shape.outage;
        options.memory = shape.memory;
        options.points.clone_from(&shape.points);
        options.hugepages = shape.hugepages;
        for (host, qemu) in &shape.newer {
            let (program, data) = (Some(qemu.program.clone()), qemu.data.clone());
            options.others.insert(host.parse()?, lab::Qemu { program, data });
        }
        lab::up(&options).context("the lab does not come up").inspect_err(|_| {
            // Refused at once, it leaves the empty directory; anything else it has removed.
            let _ = std::fs::remove_dir(&dir);
        })?;
        let plan = Plan::new(options.net, options.hosts)?;
        Self::of(dir.clone(), godwit, plan, &shape.parts).inspect_err(|_| {
            // The error that counts is the first.
            let _ = lab::down(&dir);
        })
    }

    fn of(dir: PathBuf, godwit: &Path, plan: Plan, parts: &Parts) -> Result<Self> {
        let env = lab::variables(&dir)?;
        let [(_, controller), (_, ca), (_, cert), (_, key)] = env.clone();
        let (ca, cert, key) = (ca.into(), cert.into(), key.into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(ClientConfig { controller, ca, cert, key })?;
        let (godwit, parts) = (godwit.to_owned(), parts.clone());
        Ok(Self { dir, godwit, plan, parts, env, client, runtime, up: true })
    }

    /// Addresses and names.
    pub(crate) fn plan(&self) -> Plan {
        self.plan
    }

    /// What it is made of.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Drives a future to its end.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks the controller.
    ///
    /// # Errors
    /// It refuses or does not answer.
    pub(crate) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T> {
        Ok(self.runtime.block_on(question(&self.client))?)
    }

    /// What `godwit` finds in its environment.
    pub(crate) fn env(&self) -> &[(&'static str, String)] {
        &self.env
    }

    /// Asks the controller something that it may refuse.
    ///
    /// # Errors
    /// It refuses or does not answer.
    pub(crate) fn try_ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(question(&self.client))
    }

    /// The lab's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `godwit` with `args`, in this lab's surroundings.
    pub(crate) fn godwit(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.godwit);
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.args(args).envs(env).env("GODWIT_LAB", &self.dir);
        command
    }

    /// Runs `godwit` and wants success; its standard output.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        proc::output(&mut self.godwit(args), SHORT)
    }

    /// A host's own folder, as seen from outside; mounts in it are not seen.
    pub(crate) fn host_dir(&self, host: &str) -> PathBuf {
        self.dir.join("hosts").join(host)
    }

    /// The memory file of a VM on a host, as a path that can be opened from here.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn memory_file(&self, vm: &VmName, host: &str) -> Result<PathBuf> {
        let agent = lab::processes(&self.dir, host)?.agent.context("no agent")?;
        let root = format!("/proc/{}/root{}", agent.pid, self.host_dir(host).display());
        let id = self.ask(async |c| c.vm(vm).await)?.spec.uuid.context("no UUID")?.to_string();
        let mut folders = ["memory", "huge"].map(|name| Path::new(&root).join(name)).to_vec();
        folders.retain(|folder| folder.exists());
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).context("cannot list memory files")? {
                let path = entry?.path();
                let named = path.to_string_lossy().contains(&id);
                if path.is_dir() {
                    folders.push(path);
                } else if named {
                    return Ok(path);
                }
            }
        }
        bail!("no memory file of {vm} on {host}")
    }

    /// Begins a migration and leaves it running.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn begin(&self, order: &Order<'_>) -> Result<Migration> {
        let mut args = vec!["migrate", order.vm];
        if let Some(to) = order.to {
            args.extend(["--to", to]);
        }
        if order.verify {
            args.push("--verify");
        }
        let budget = order.blackout_ms.map(|ms| ms.to_string());
        if let Some(budget) = &budget {
            args.extend(["--blackout-budget", budget]);
        }
        args.extend(["-o", "json"]);
        let messages = if order.show { Messages::Shown } else { Messages::Kept };
        Ok(Migration { running: Running::start(&mut self.godwit(&args), messages)? })
    }

    /// Migrates, waits, and wants it completed.
    ///
    /// # Errors
    /// It does not complete; the error says why.
    pub(crate) fn migrate(&self, order: &Order<'_>) -> Result<Moved> {
        let moved = self.begin(order)?.end()?;
        moved.completed().with_context(|| {
            format!("{} should have gone to {}", order.vm, order.to.unwrap_or("some host"))
        })?;
        Ok(moved)
    }

    /// The last lines of every log of the lab, for an error text.
    pub(crate) fn logs(&self) -> String {
        let mut files = Vec::new();
        find_logs(&self.dir, 6, &mut files);
        files.sort();
        let mut text = String::new();
        for file in files {
            let name = file.strip_prefix(&self.dir).unwrap_or(&file);
            let lines = std::fs::read(&file).unwrap_or_default();
            text += &format!("--- {}\n{}", name.display(), tail(&String::from_utf8_lossy(&lines)));
        }
        text
    }

    /// Takes the lab down and wants nothing left of it.
    ///
    /// # Errors
    /// Something could not be ended or is left.
    pub(crate) fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.up) {
            return Ok(());
        }
        lab::down(&self.dir).context("the lab does not go down")?;
        ensure!(!self.dir.exists(), "`lab down` left {}", self.dir.display());
        Ok(())
    }

    /// Leaves the lab up, for somebody to look at.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.up = false;
        self.dir.clone()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(e) = self.take_down() {
            eprintln!("error: {e:#}");
        }
    }
}

/// What is asked of a migration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The VM.
    pub(crate) vm: &'a str,
    /// Where to.
    pub(crate) to: Option<&'a str>,
    /// Compare both sides at the switchover.
    pub(crate) verify: bool,
    /// Show the progress.
    pub(crate) show: bool,
    /// Longest pause in milliseconds; the default without.
    pub(crate) blackout_ms: Option<u32>,
}

impl<'a> Order<'a> {
    /// To `to`, quietly.
    pub(crate) fn to(vm: &'a str, to: &'a str) -> Self {
        Self { vm, to: Some(to), verify: false, show: false, blackout_ms: None }
    }
}

/// A migration under way.
#[derive(Debug)]
pub(crate) struct Migration {
    running: Running,
}

impl Migration {
    /// True while the command runs.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        self.running.is_running()
    }

    /// Waits for its end, whatever that is.
    ///
    /// # Errors
    /// No end within ten minutes, or no report.
    pub(crate) fn end(self) -> Result<Moved> {
        let ended = self.running.wait(LONG)?;
        let exit = ended.status.code().unwrap_or(-1);
        let report = serde_json::from_str(&ended.stdout).with_context(|| {
            format!("no report (exit code {exit}): {}{}", ended.stdout, ended.stderr)
        })?;
        Ok(Moved { report, exit, took: ended.took })
    }
}

/// A migration that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    /// Godwit's report.
    pub(crate) report: MigrationReport,
    /// Exit code of the command.
    pub(crate) exit: i32,
    /// Wall time of the command.
    pub(crate) took: Duration,
}

impl Moved {
    /// Wants it completed, with the exit code that goes with it.
    ///
    /// # Errors
    /// It ended in another way.
    pub(crate) fn completed(&self) -> Result<()> {
        let report = &self.report;
        if report.outcome != Some(Outcome::Completed) || self.exit != 0 {
            bail!(
                "the migration of {} from {} to {} ended as {:?} (exit code {}): {}",
                report.vm,
                report.from,
                report.to,
                report.outcome,
                self.exit,
                report.reason.as_deref().unwrap_or("no reason given")
            );
        }
        Ok(())
    }
}

fn find_logs(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => find_logs(&path, depth - 1, found),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|e| e == "log") => {
                found.push(path);
            }
            _ => {}
        }
    }
}

/// The last 25 lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(25);
    lines[from..].iter().fold(String::new(), |all, line| all + line + "\n")
}

/// Time since `begun`, in seconds.
pub(crate) fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end() {
        let text: String = (0..40).map(|n| format!("{n}\n")).collect();
        assert!(tail(&text).starts_with("15\n") && tail(&text).ends_with("39\n"));
        assert_eq!(tail("one"), "one\n");
    }
}
