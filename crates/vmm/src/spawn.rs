//! Starts processes that outlive us: in a session of their own, in a control group.

// `pre_exec` is the only way to join a session and groups before the program runs.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::VmmError;
use crate::process::Identity;

/// Starts `command` with `log` as output, as a member of the groups whose
/// `cgroup.procs` are given. It is reaped when it ends, whoever else waits for it.
///
/// `input` is all it will ever read.
pub(crate) async fn spawn(
    mut command: Command,
    log: File,
    groups: Vec<File>,
    input: &[u8],
) -> Result<Identity, VmmError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let fail = |problem: String| VmmError::Command { command: name.clone(), problem };
    let errors = log.try_clone().map_err(|e| fail(e.to_string()))?;
    command.stdout(log).stderr(errors);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    // SAFETY: between fork and exec only system calls are made: setsid, and writes
    // of a constant to files that were opened before. Nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            for group in &groups {
                // A VM runs outside its group, too.
                let _ = rustix::io::write(group, b"0");
            }
            Ok(())
        });
    }
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .map_err(|e| fail(format!("cannot be run: {e}")))?;
    // A child that was not waited for keeps its pid, so this is its identity or none.
    let identity = child.id().and_then(Identity::of);
    let stdin = child.stdin.take();
    tokio::spawn(async move { child.wait().await });
    let identity = identity.ok_or_else(|| fail("ended at once".to_owned()))?;
    if let Some(mut stdin) = stdin {
        use tokio::io::AsyncWriteExt;
        let written = stdin.write_all(input).await;
        written.map_err(|e| fail(format!("did not read what it was told: {e}")))?;
    }
    Ok(identity)
}
