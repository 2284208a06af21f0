//! What a reboot of a host takes away from its agent: the process, and memory.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::state::Places;
use crate::{LabError, command_in, processes};

/// An agent may take this long to end, and to be there again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends a host's agent as a shutdown does, takes its memory file systems away with
/// all that is in them, and starts it again; returns when it runs. What else lives
/// on the host, VMs of others among it, is left alone: no VM of the agent's may be
/// there.
pub fn reboot(dir: &Path, host: &str) -> Result<(), LabError> {
    let failed =
        |why: &str| LabError::Command { command: format!("reboot {host}"), why: why.to_owned() };
    let found = processes(dir, host)?;
    let supervisor = found.supervisor.ok_or_else(|| failed("it has no supervisor"))?;
    let agent = found.agent.ok_or_else(|| failed("it has no agent"))?;
    supervisor.signal(Signal::STOP)?;
    let emptied = agent.signal(Signal::TERM).and_then(|_| {
        if !agent.wait_gone(PATIENCE) {
            return Err(failed("its agent does not end"));
        }
        forget_memory(dir, host)
    });
    supervisor.signal(Signal::CONT)?;
    emptied?;
    let deadline = Instant::now() + PATIENCE;
    while processes(dir, host)?.agent.is_none() {
        if Instant::now() > deadline {
            return Err(failed("its agent does not start again"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn forget_memory(dir: &Path, host: &str) -> Result<(), LabError> {
    let own = Places::new(dir).host(host);
    for name in ["memory", "huge"] {
        let folder = own.join(name);
        let run = |program: &str, args: &[&str]| {
            let mut command = command_in(dir, host, program)?;
            let out = command.args(args).arg(&folder).output().map_err(|e| LabError::Command {
                command: program.to_owned(),
                why: e.to_string(),
            })?;
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            Ok::<_, LabError>((out.status.success(), said))
        };
        if !run("mountpoint", &["-q"])?.0 {
            continue;
        }
        let (done, why) = run("umount", &[])?;
        if !done {
            return Err(LabError::Command { command: format!("umount {}", folder.display()), why });
        }
    }
    Ok(())
}
