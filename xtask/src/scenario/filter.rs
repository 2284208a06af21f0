//! A QEMU that does not know a machine type, made of one that does: its answers
//! pass through here and lose the name.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::proc;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where the agent connects.
    #[arg(long)]
    listen: PathBuf,
    /// Where QEMU listens.
    #[arg(long)]
    connect: PathBuf,
    /// The word that nobody shall see.
    #[arg(long)]
    hide: String,
}

/// Serves one connection to its end.
///
/// # Errors
/// QEMU cannot be reached, or somebody hangs up.
pub(super) fn run(args: &Args) -> Result<()> {
    let listener = UnixListener::bind(&args.listen)?;
    let (agent, _) = listener.accept()?;
    let qemu = proc::until_quickly("QEMU's monitor", Duration::from_secs(20), || {
        Ok(UnixStream::connect(&args.connect).ok())
    })?;
    let (mut to_qemu, mut from_agent) = (qemu.try_clone()?, agent.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from_agent, &mut to_qemu));
    let mut agent = agent;
    for line in BufReader::new(qemu).split(b'\n') {
        let line = String::from_utf8(line?).context("QEMU speaks UTF-8")?;
        let line = line.replace(&args.hide, "hidden-from-the-agent");
        agent.write_all(line.as_bytes())?;
        agent.write_all(b"\n")?;
    }
    Ok(())
}
