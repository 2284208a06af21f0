//! A lab of our own for the time of one task, driven through the binary as a
//! user would drive it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use types::{MigrationReport, Outcome};

use crate::check::cargo;
use crate::proc::{self, Messages, Running};
use crate::setup;

/// Longest a command that only asks or records something may take.
const SHORT: Duration = Duration::from_secs(60);
/// Longest a migration may take.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// What a lab should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Hosts.
    pub(crate) hosts: u32,
    /// Rate of each link, such as `1gbit`; unshaped without.
    pub(crate) link: Option<String>,
    /// QEMU in place of the installed one.
    pub(crate) qemu: Option<PathBuf>,
    /// A proxy on the links, for delays and cuts.
    pub(crate) proxy: bool,
}

impl Shape {
    /// Two hosts, links as fast as they are, no proxy.
    pub(crate) fn plain(qemu: Option<PathBuf>) -> Self {
        Self { hosts: 2, link: None, qemu, proxy: false }
    }
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
#[derive(Debug)]
pub(crate) struct Fleet {
    dir: PathBuf,
    godwit: PathBuf,
    env: BTreeMap<String, String>,
    up: bool,
}

impl Fleet {
    /// Brings a lab up in a directory of its own.
    ///
    /// # Errors
    /// It does not come up; nothing is left of it then.
    pub(crate) fn up(godwit: &Path, shape: &Shape) -> Result<Self> {
        // Short, because the sockets in it have at most 107 bytes of path.
        let dir = PathBuf::from(format!("/var/tmp/gw-{}", std::process::id()));
        let mut fleet = Self { dir, godwit: godwit.to_owned(), env: BTreeMap::new(), up: true };
        let hosts = shape.hosts.to_string();
        let mut command = fleet.godwit(&["lab", "up", "--hosts", &hosts]);
        if let Some(rate) = &shape.link {
            command.args(["--link", rate]);
        }
        if let Some(qemu) = &shape.qemu {
            command.arg("--qemu").arg(qemu);
        }
        if !shape.proxy {
            command.arg("--no-proxy");
        }
        proc::output(&mut command, 2 * SHORT).context("the lab does not come up")?;
        let env = proc::output(&mut fleet.godwit(&["lab", "env"]), SHORT)?;
        fleet.env = parse_env(&env);
        ensure!(
            fleet.env.contains_key("GODWIT_CONTROLLER"),
            "`godwit lab env` does not say where the controller is:\n{env}"
        );
        Ok(fleet)
    }

    /// The lab's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `godwit` with `args`, in this lab's surroundings.
    pub(crate) fn godwit(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.godwit);
        command.args(args).envs(&self.env).env("GODWIT_LAB", &self.dir);
        command
    }

    /// Runs `godwit` and wants success; its standard output.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        proc::output(&mut self.godwit(args), SHORT)
    }

    /// Runs `godwit … -o json` and reads its answer.
    ///
    /// # Errors
    /// It fails, or the answer is not what was expected.
    pub(crate) fn ask<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.run(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("the answer to `godwit {}`: {text}", args.join(" ")))
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
        find_logs(&self.dir, 4, &mut files);
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
        let mut command = self.godwit(&["lab", "down"]);
        let ended = Running::start(&mut command, Messages::Kept)?.cleaning().wait(2 * SHORT)?;
        ensure!(ended.status.success(), "the lab does not go down: {}", ended.stderr.trim());
        ensure!(!self.dir.exists(), "`godwit lab down` left {}", self.dir.display());
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
}

impl<'a> Order<'a> {
    /// To `to`, quietly.
    pub(crate) fn to(vm: &'a str, to: &'a str) -> Self {
        Self { vm, to: Some(to), verify: false, show: false }
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

/// `KEY=value` lines, with or without `export` and quotes.
fn parse_env(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| {
        let line = line.trim();
        let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim_matches(|c| c == '"' || c == '\'');
        Some((key.trim().to_owned(), value.to_owned()))
    });
    pairs.collect()
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
    fn the_surroundings_are_read_in_every_spelling() {
        let env = parse_env("export A='x y'\nB=\"z\"\n# words\nC=https://h:1/?a=b\n");
        assert_eq!(env["A"], "x y");
        assert_eq!(env["B"], "z");
        assert_eq!(env["C"], "https://h:1/?a=b");
        assert_eq!(env.len(), 3);
    }

    #[test]
    fn a_tail_is_the_end() {
        let text: String = (0..40).map(|n| format!("{n}\n")).collect();
        assert!(tail(&text).starts_with("15\n") && tail(&text).ends_with("39\n"));
        assert_eq!(tail("one"), "one\n");
    }
}
