//! Running other programs: with a limit, and ended when the user presses Ctrl-C.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and SIGTERM set a flag from now on instead of ending this process, so
/// that whoever has something to clean up can do so.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn catch_interrupts() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, installed) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let both = signal(SignalKind::interrupt())
                .and_then(|int| signal(SignalKind::terminate()).map(|term| (int, term)));
            let (mut int, mut term) = match both {
                Ok(both) => {
                    let _ = ready.send(Ok(()));
                    both
                }
                Err(e) => {
                    let _ = ready.send(Err(e));
                    return;
                }
            };
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                INTERRUPTED.store(true, Ordering::SeqCst);
                eprintln!("\ninterrupted: cleaning up");
            }
        });
    })?;
    installed.recv().context("the signal thread ended")?.context("cannot catch signals")
}

/// Fails once the user has asked to stop.
///
/// # Errors
/// Interrupted.
pub(crate) fn alive() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits, in short steps that notice an interrupt.
///
/// # Errors
/// Interrupted.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        alive()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Asks again and again until `ask` has an answer.
///
/// # Errors
/// Nothing came within `limit` (the error names `what`), or interrupted, or
/// `ask` failed.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_every(Duration::from_millis(50), what, limit, ask)
}

/// Like [`until`], for what passes quickly.
///
/// # Errors
/// As there.
pub(crate) fn until_quickly<T>(
    what: &str,
    limit: Duration,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_every(Duration::from_millis(1), what, limit, ask)
}

fn until_every<T>(
    step: Duration,
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {} s", limit.as_secs_f64());
        }
        pause(step)?;
    }
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error, where that was kept.
    pub(crate) stderr: String,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// Where a program's messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Messages {
    /// Kept, for the error text.
    Kept,
    /// To our standard error, as they come.
    Shown,
    /// To our standard error, and standard output with them: ours carries data only.
    All,
}

/// A program under way.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
    begun: Instant,
    stdout: Option<Collected>,
    stderr: Option<Collected>,
}

impl Running {
    /// Starts `command` in a process group of its own, so that Ctrl-C in the
    /// terminal reaches only us.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &mut Command, messages: Messages) -> Result<Self> {
        let name = describe(command);
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(match messages {
            Messages::All => Stdio::from(std::io::stderr().as_fd().try_clone_to_owned()?),
            _ => Stdio::piped(),
        });
        command.stderr(match messages {
            Messages::Kept => Stdio::piped(),
            Messages::Shown | Messages::All => Stdio::inherit(),
        });
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().map(Collected::from);
        let stderr = child.stderr.take().map(Collected::from);
        Ok(Self { child, name, begun: Instant::now(), stdout, stderr })
    }

    /// True while it runs.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end; ends it after `limit` or on an interrupt.
    ///
    /// # Errors
    /// It did not end in time, or interrupted.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<Ended> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            let late = self.begun.elapsed() > limit;
            let interrupted = alive();
            if late || interrupted.is_err() {
                self.end();
                let stderr = self.stderr.take().map(Collected::text).unwrap_or_default();
                interrupted?;
                bail!("{} did not end within {} s\n{stderr}", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Ended {
            status,
            stdout: self.stdout.take().map(Collected::text).unwrap_or_default(),
            stderr: self.stderr.take().map(Collected::text).unwrap_or_default(),
            took: self.begun.elapsed(),
        })
    }

    /// Ends the whole process group: politely, then after two seconds for good.
    fn end(&mut self) {
        let Some(group) = Pid::from_raw(self.child.id().cast_signed()) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Runs `command` to its end and wants success; all it writes is shown on
/// standard error.
///
/// # Errors
/// It cannot be started, fails, or does not end within `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let name = describe(command);
    let ended = Running::start(command, Messages::All)?.wait(limit)?;
    if !ended.status.success() {
        bail!("{name} failed ({})", ended.status);
    }
    Ok(())
}

/// Runs `command` quietly and returns its standard output; its messages are in the error.
///
/// # Errors
/// It cannot be started, fails, or does not end within `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let name = describe(command);
    let ended = Running::start(command, Messages::Kept)?.wait(limit)?;
    if !ended.status.success() {
        bail!("{name} failed ({}): {}", ended.status, ended.stderr.trim());
    }
    Ok(ended.stdout)
}

/// The program as a person would have typed it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// What a program writes, collected by a thread.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    /// Keeps at least the last megabyte of what comes, and at most twice that.
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        const KEPT: usize = 1 << 20;
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 16 << 10];
            while let Ok(n) = pipe.read(&mut buffer) {
                let Ok(mut all) = shared.lock() else { break };
                if n == 0 {
                    break;
                }
                all.extend_from_slice(&buffer[..n]);
                if all.len() > 2 * KEPT {
                    let cut = all.len() - KEPT;
                    all.drain(..cut);
                }
            }
        });
        Self { bytes, thread }
    }

    /// All of it. The program has ended; one that it started and that still
    /// holds the pipe is not waited for.
    fn text(self) -> String {
        let end = Instant::now() + Duration::from_secs(1);
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let bytes = self.bytes.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_failure_are_told_apart() {
        assert_eq!(output(&mut sh("echo out; echo err >&2"), 9 * SECOND).unwrap(), "out\n");
        let failure = output(&mut sh("echo why >&2; exit 3"), 9 * SECOND).unwrap_err().to_string();
        assert!(failure.contains("why") && failure.contains('3'), "{failure}");
        let missing = output(&mut Command::new("no-such-program-here"), SECOND).unwrap_err();
        assert!(missing.to_string().contains("no-such-program-here"));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let begun = Instant::now();
        let error = output(&mut sh("exec sleep 100"), SECOND / 10).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(begun.elapsed() < 20 * SECOND);
    }

    #[test]
    fn waiting_for_an_answer_has_an_end() {
        let mut left = 3;
        let answer = until("three", SECOND * 9, || {
            left -= 1;
            Ok((left == 0).then_some("there"))
        });
        assert_eq!(answer.unwrap(), "there");
        let late = until("never", SECOND / 20, || Ok(None::<()>)).unwrap_err();
        assert!(late.to_string().contains("never"));
    }
}
