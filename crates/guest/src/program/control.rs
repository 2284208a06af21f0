//! The control protocol: one line asked, one line answered, over TCP and over
//! the console.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use godwit_guest::CONTROL_PORT;

use super::{Guest, network, say, shape, spawn, status};

/// Longest request in bytes.
const LINE: u64 = 1024;

/// Answers on the port and on the console.
pub(super) fn start(guest: &Arc<Guest>) -> Result<(), String> {
    network::listen(guest, CONTROL_PORT, |guest, stream| {
        let Ok(mut answers) = stream.try_clone() else { return };
        converse(guest, stream, |answer| writeln!(answers, "{answer}").is_ok());
    })?;
    if guest.roles.shell {
        // What is typed there is the shell's.
        return Ok(());
    }
    spawn(guest, |guest| {
        converse(guest, ConsoleInput, |answer| {
            say(&format!("guest answer {answer}"));
            true
        });
    });
    Ok(())
}

/// Standard input without a lock held for ever.
struct ConsoleInput;

impl Read for ConsoleInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::io::stdin().read(buffer)
    }
}

fn converse(guest: &Guest, requests: impl Read, mut tell: impl FnMut(&str) -> bool) {
    let mut requests = BufReader::new(requests);
    loop {
        let mut line = Vec::new();
        match requests.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(1..) if line.ends_with(b"\n") => {}
            Ok(_) | Err(_) => return,
        }
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() && !tell(&answer(guest, line.trim())) {
            return;
        }
    }
}

fn spawn_after(pause: Duration, work: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        if let Err(e) = work() {
            say(&format!("guest ERROR {e}"));
        }
    });
}

/// The answer to one request.
fn answer(guest: &Guest, request: &str) -> String {
    let (word, rest) = request.split_once(' ').unwrap_or((request, ""));
    match word {
        "status" => format!("ok {}", status(guest)),
        "verify" => match guest.memory.verify() {
            Ok((fill, dirty)) => format!("ok fill_pages={fill} dirty_pages={dirty}"),
            Err(problem) => format!("bad {problem}"),
        },
        "disk" => {
            let head = guest.disks.head(rest.parse().unwrap_or(0));
            format!("ok acknowledged={} hash={:08x}", head.counter, head.hash)
        }
        "echo" => format!("ok {rest}"),
        "machine" => format!("ok {}", shape::describe()),
        "poweroff" | "reboot" => match Command::new("/bin/busybox").args([word, "-f"]).spawn() {
            Ok(_) => "ok".into(),
            Err(e) => format!("error {word}: {e}"),
        },
        "panic" => {
            // In a moment, so that the answer gets out.
            spawn_after(Duration::from_millis(50), || std::fs::write("/proc/sysrq-trigger", "c"));
            "ok".into()
        }
        _ => "error known requests: status, verify, disk [N], machine, echo TEXT, reboot, \
              poweroff, panic"
            .into(),
    }
}
