//! One process for each of the lab's programs, which starts it again whenever
//! it ends, as an init system would.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, set_child_subreaper, setsid, wait};
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::mounts::{self, View};

/// What a supervisor writes when its namespaces are as they should be.
pub(crate) const READY: &str = "ready\n";

/// A program that lives this long has started well: what ends it then is not its start.
const GOOD: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// What a supervisor is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// For messages.
    pub(crate) name: String,
    /// How the mount namespace is narrowed; left as it is where absent.
    pub(crate) view: Option<View>,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// What is added to its environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn read(file: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(file).map_err(LabError::file("read", file))?;
        serde_json::from_str(&text)
            .map_err(|e| LabError::Damaged { path: file.to_owned(), why: e.to_string() })
    }
}

/// The program `godwit lab-host --config FILE`: narrows its namespaces, says
/// that it is ready, and keeps the configured program running until it is ended
/// itself. `up` starts it in namespaces of its own; nothing else should.
pub fn host_main(config: &Path) -> Result<(), LabError> {
    let config = Config::read(config)?;
    // A terminal that goes away must not take the lab along. Fails where this
    // process leads a group already, which is as good.
    let _ = setsid();
    // What the program leaves behind when it ends, such as VMs, comes here.
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(LabError::system("adopt orphaned processes"))?;
    if let Some(view) = &config.view {
        mounts::enter(view)?;
        // Neighbour discovery and the like would only blur what links carry.
        let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    }
    say_ready()?;
    let mut delay = SHORTEST;
    loop {
        let begun = Instant::now();
        let how = run_once(&config);
        delay = if begun.elapsed() >= GOOD { SHORTEST } else { delay };
        eprintln!("{}: {how}; starting it again in {} ms", config.name, delay.as_millis());
        std::thread::sleep(delay);
        delay = longer(delay);
    }
}

fn longer(delay: Duration) -> Duration {
    (delay * 2).min(LONGEST)
}

/// Tells whoever started this process, then lets standard output go to the log.
fn say_ready() -> Result<(), LabError> {
    let mut out = std::io::stdout();
    // Nobody may be listening any more; the lab goes on all the same.
    let _ = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())
        .map_err(LabError::system("redirect standard output"))
}

/// Runs the program until it ends, reaping whatever else ends meanwhile. Says
/// how it ended.
fn run_once(config: &Config) -> String {
    let started = Command::new(&config.program)
        .args(&config.args)
        .envs(&config.env)
        .stdin(Stdio::null())
        .spawn();
    let child = match started {
        Ok(child) => child.id(),
        Err(e) => return format!("cannot start {}: {e}", config.program.display()),
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("ended with exit code {code}"),
                    (None, Some(signal)) => format!("ended by signal {signal}"),
                    (None, None) => "ended".into(),
                };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return format!("lost sight of it: {errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound() {
        let mut delays = vec![SHORTEST];
        while delays.last() != Some(&LONGEST) {
            delays.push(longer(*delays.last().unwrap()));
            assert!(delays.len() < 10, "{delays:?}");
        }
        assert_eq!(longer(LONGEST), LONGEST);
    }
}
