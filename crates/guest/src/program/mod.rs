//! The program inside a Linux guest: one thread for each role.

mod control;
mod disk;
mod memory;
mod network;
mod shape;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use godwit_guest::Roles;

use self::disk::Disks;
use self::memory::Memory;

/// What all threads share.
pub(crate) struct Guest {
    pub(crate) roles: Roles,
    /// Differs from boot to boot.
    pub(crate) boot: u64,
    pub(crate) started: Instant,
    pub(crate) memory: Memory,
    pub(crate) disks: Disks,
    /// Heartbeat packets sent.
    pub(crate) beats: AtomicU64,
    /// Bytes of counters written to clients.
    pub(crate) served: AtomicU64,
}

/// Reads the kernel command line and does what it says, for ever.
///
/// # Errors
/// Roles that cannot be understood, or a port that cannot be had.
pub(crate) fn run() -> Result<(), String> {
    let line =
        std::fs::read_to_string("/proc/cmdline").map_err(|e| format!("/proc/cmdline: {e}"))?;
    let option =
        |name: &str| line.split_whitespace().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
    let roles: Roles =
        option("godwit.roles").unwrap_or_default().parse().map_err(|e| format!("{e}"))?;
    let witness = option("godwit.witness")
        .map(|w| w.parse::<SocketAddr>().map_err(|e| format!("godwit.witness={w}: {e}")))
        .transpose()?;
    let guest = Arc::new(Guest {
        roles,
        boot: boot_id()?,
        started: Instant::now(),
        memory: Memory::default(),
        disks: Disks::default(),
        beats: AtomicU64::new(0),
        served: AtomicU64::new(0),
    });
    say(&format!("guest ready boot={:016x} roles={roles}", guest.boot));
    start(&guest, witness)?;
    if guest.roles.shell { shell() } else { tick(&guest) }
}

/// Starts the threads of all roles.
fn start(guest: &Arc<Guest>, witness: Option<SocketAddr>) -> Result<(), String> {
    control::start(guest)?;
    if let Some(rate) = guest.roles.serve {
        network::serve(guest, rate)?;
    }
    if let Some(every) = guest.roles.beat {
        let witness = witness.ok_or("the role beat needs godwit.witness=IP:PORT")?;
        network::beat(guest, witness, Duration::from_millis(every.into()))?;
    }
    if let Some(every) = guest.roles.fsync {
        for (index, name) in disk::found().into_iter().enumerate() {
            let period = Duration::from_millis(every.into());
            spawn(guest, move |g| disk::run(g, index, &name, period));
        }
    }
    if let Some(fill) = guest.roles.fill {
        spawn(guest, move |g| memory::fill(g, fill));
    }
    if let Some(dirty) = guest.roles.dirty {
        spawn(guest, move |g| memory::dirty(g, dirty));
    }
    Ok(())
}

/// A shell at the console, for ever: whoever ends it gets the next.
fn shell() -> ! {
    // A session of its own, so that the console is its terminal.
    let line = "exec setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1";
    loop {
        let ended = Command::new("/bin/busybox").args(["sh", "-c", line]).status();
        say(&format!("guest shell ended: {ended:?}"));
        thread::sleep(Duration::from_secs(1));
    }
}

/// Writes a line to the console each second: the heartbeat that a log shows.
fn tick(guest: &Guest) -> ! {
    let mut every = Every::new(Duration::from_secs(1));
    let mut count = 0u64;
    loop {
        every.wait();
        count += 1;
        say(&format!("guest tick {count} {}", status(guest)));
    }
}

/// The guest's state as `key=value`.
fn status(guest: &Guest) -> String {
    format!(
        "uptime_ms={} boot={:016x} filled_mib={} dirtied_pages={} beats={} served={} disk={}",
        guest.started.elapsed().as_millis(),
        guest.boot,
        guest.memory.filled(),
        guest.memory.dirtied(),
        guest.beats.load(Ordering::Relaxed),
        guest.served.load(Ordering::Relaxed),
        guest.disks.head(0).counter,
    )
}

/// Writes one line to the console, in one piece.
pub(crate) fn say(line: &str) {
    // A console that is gone cannot be told so.
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
    let _ = std::io::stdout().flush();
}

fn spawn(guest: &Arc<Guest>, work: impl FnOnce(&Guest) + Send + 'static) {
    let guest = Arc::clone(guest);
    thread::spawn(move || work(&guest));
}

fn boot_id() -> Result<u64, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).map_err(|e| format!("{path}: {e}"))
}

/// A rhythm that neither drifts nor makes up for what it missed.
pub(crate) struct Every {
    period: Duration,
    next: Instant,
}

impl Every {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, next: Instant::now() + period }
    }

    /// Sleeps until the next moment.
    pub(crate) fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        self.next = (self.next + self.period).max(now);
    }
}
