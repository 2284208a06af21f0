//! A user at the console of a VM that moves.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use types::Bytes;

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene};
use crate::guests::Linux;
use crate::proc;

/// Longest the guest may take to write what is waited for.
const SOON: Duration = Duration::from_secs(30);
/// Ends the session.
const ESCAPE: &[u8] = b"\x1d";

/// Consoles.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "console-follow",
    about: "a shell at `vm console` counts on through two moves: no number lost, none doubled",
    scene: Scene::Fast,
    long: false,
    play: follow,
}];

/// `godwit vm console` at a terminal of ours.
struct Console {
    child: Child,
    /// What is typed and what is shown.
    terminal: File,
    /// Keeps the terminal, also after the program has ended.
    inner: File,
    shown: Receiver<Vec<u8>>,
    text: String,
    told: ChildStderr,
}

impl Console {
    fn attach(stage: &Stage, vm: &str) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).context("a terminal")?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let name = ptsname(&terminal, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = File::from(open(name, flags, Mode::empty())?);
        let mut command = stage.fleet.godwit(&["vm", "console", vm]);
        command.stdin(inner.try_clone()?).stdout(inner.try_clone()?).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let told = child.stderr.take().context("its messages")?;
        let terminal = File::from(terminal);
        let (sender, shown) = channel();
        let mut from = terminal.try_clone()?;
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, terminal, inner, shown, text: String::new(), told })
    }

    fn type_in(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.terminal.write_all(bytes)?)
    }

    fn read(&mut self) {
        while let Ok(bytes) = self.shown.try_recv() {
            self.text += &String::from_utf8_lossy(&bytes);
        }
    }

    /// Waits until what was shown is as `enough` wants it.
    fn until(&mut self, what: &str, enough: impl Fn(&str) -> bool) -> Result<()> {
        let waited = proc::until(what, SOON, || {
            self.read();
            if let Some(status) = self.child.try_wait()? {
                bail!("the console ended with {status}");
            }
            Ok(enough(&self.text).then_some(()))
        });
        let shown: String = self.text.chars().rev().take(500).collect();
        waited.with_context(|| format!("shown: {:?}", shown.chars().rev().collect::<String>()))
    }

    /// Presses the key that ends the session, and wants the terminal as it was.
    fn detach(mut self) -> Result<(String, String)> {
        ensure!(!cooked(&self.inner)?, "the terminal is not raw during the session");
        self.type_in(ESCAPE)?;
        let status = proc::until("the session's end", SOON, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the session ended with {status}");
        ensure!(cooked(&self.inner)?, "the terminal is still raw");
        self.read();
        let mut told = String::new();
        self.told.read_to_string(&mut told)?;
        Ok((std::mem::take(&mut self.text), told))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a terminal edits lines by itself.
fn cooked(terminal: &File) -> Result<bool> {
    Ok(tcgetattr(terminal)?.local_modes.contains(LocalModes::ICANON))
}

/// The numbers of the guest's loop, in the order they were shown.
fn numbers(text: &str) -> Vec<u64> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("n=")?.strip_suffix('.'));
    lines.filter_map(|number| number.parse().ok()).collect()
}

fn follow(stage: &mut Stage) -> Result<()> {
    let guest = Guest::start(
        stage,
        &Linux {
            name: "console",
            number: 14,
            memory: Bytes::mib(256),
            vcpus: 1,
            roles: "shell",
            disks: Vec::new(),
        },
    )?;
    let vm = guest.vm.to_string();
    let mut console = Console::attach(stage, &vm)?;
    console.until("a prompt", |text| text.contains("/ # "))?;
    console.type_in(b"echo a$((1+1))z\r")?;
    console.until("a shell that answers", |text| text.contains("a2z"))?;
    console.type_in(
        b"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo n=$i.; busybox usleep 20000; done\r",
    )?;
    console.until("numbers", |text| numbers(text).len() >= 10)?;
    let mut blackout = Vec::new();
    for to in ["host-b", "host-a"] {
        blackout.extend(stage.hop(&guest.vm, to)?.report.blackout_seconds);
        console.read();
        let before = numbers(&console.text).len();
        console.until("numbers after the move", |text| numbers(text).len() >= before + 20)?;
    }
    console.type_in(b"\x03")?;
    console.type_in(b"echo b$((1+1))z\r")?;
    console.until("the loop's end", |text| text.contains("b2z"))?;
    let (text, told) = console.detach()?;
    let numbers = numbers(&text);
    for (expected, number) in (1..).zip(&numbers) {
        ensure!(*number == expected, "number {number} was shown in place of {expected}");
    }
    for host in ["host-b", "host-a"] {
        let said = format!("{vm} is on {host} now");
        ensure!(told.contains(&said), "it did not say {said:?} but {told:?}");
    }
    read_only_and_one_writer(stage, &vm)?;
    stage.measure("numbers", numbers.len());
    stage.measure("blackout_seconds", blackout);
    Ok(())
}

/// A pipe serves as well as a terminal; only one session types.
fn read_only_and_one_writer(stage: &Stage, vm: &str) -> Result<()> {
    let mut first = Console::attach(stage, vm)?;
    first.type_in(b"echo c$((1+1))z\r")?;
    first.until("the shell at the first session", |text| text.contains("c2z"))?;
    let mut second = stage.fleet.godwit(&["vm", "console", vm, "--quiet"]);
    let refused = second.stdin(Stdio::null()).output()?;
    let why = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(7) && why.contains("console-in-use"), "{refused:?}");
    first.detach()?;
    let mut piped = stage.fleet.godwit(&["vm", "console", vm, "--quiet"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    piped.stdin.take().context("its input")?.write_all(b"echo d$((1+1))z\r")?;
    let done = piped.wait_with_output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success() && text.contains("d2z"), "{done:?}");
    Ok(())
}
