//! `godwit lab`: a fleet on one machine.

mod guest;
mod up;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::lab::LabError;
use clap::{Subcommand, ValueEnum};
use types::HostId;

use crate::failure::{FAILED, Failure, USAGE};
use crate::output::{Output, print};
use crate::span;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a lab up: controller, hosts, links. Needs root.
    #[command(
        after_help = "Examples:\n  godwit lab up\n  godwit lab up --hosts 3 --link 1gbit --no-proxy"
    )]
    Up(up::Args),
    /// End a lab with everything in it; nothing is left behind.
    #[command(after_help = "Example:\n  godwit lab down")]
    Down(Place),
    /// Print the environment that `godwit` needs to use the lab, for a shell.
    #[command(after_help = "Example:\n  godwit lab env\n\nIn a shell: eval \"$(godwit lab env)\"")]
    Env(Place),
    /// Show a lab: hosts, links, processes.
    #[command(after_help = "Example:\n  godwit lab status -o json")]
    Status(Place),
    /// Put a guest's files into a lab and print its spec for `vm create`.
    #[command(
        after_help = "Examples:\n  godwit lab guest web01\n  godwit lab guest t1 --tiny --memory 64MiB\n\n\
                      In a shell: godwit lab guest web01 | godwit vm create -f -"
    )]
    Guest(guest::Args),
    /// Run a command in a host's namespaces.
    #[command(after_help = "Example:\n  godwit lab exec host-a ip address")]
    Exec {
        #[command(flatten)]
        place: Place,
        /// The host.
        host: HostId,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Make a fault on the way to a host's carriers, or end it.
    #[command(
        after_help = "Examples:\n  godwit lab fault host-b cut\n  godwit lab fault host-b delay --by 20ms\n  godwit lab fault host-b none"
    )]
    Fault {
        #[command(flatten)]
        place: Place,
        /// The host.
        host: HostId,
        /// What to do with its carriers' connections.
        #[arg(value_enum)]
        fault: Fault,
        /// How much to delay, in each direction.
        #[arg(long, value_parser = span::parse, value_name = "SPAN", required_if_eq("fault", "delay"))]
        by: Option<Duration>,
    },
}

/// Which lab.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The lab's directory [default: $GODWIT_LAB, else /var/tmp/godwit-lab].
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Place {
    fn dir(self) -> PathBuf {
        self.dir.unwrap_or_else(::lab::default_dir)
    }
}

/// What the proxy can do to a host's connections.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Fault {
    /// Delay what passes.
    Delay,
    /// Stop forwarding; connections stay open.
    Cut,
    /// Reset the connections there are.
    Reset,
    /// Refuse new connections.
    Refuse,
    /// End delay, cut and refusal.
    None,
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(args, output),
        Command::Down(place) => Ok(::lab::down(&place.dir())?),
        Command::Env(place) => print(&::lab::env(&place.dir())?),
        Command::Status(place) => {
            let status = ::lab::status(&place.dir())?;
            output.result(&status, ToString::to_string)
        }
        Command::Guest(args) => guest::run(args),
        Command::Exec { place, host, command } => exec(&place.dir(), &host, &command),
        Command::Fault { place, host, fault, by } => make(&place.dir(), &host, fault, by),
    }
}

fn exec(dir: &Path, host: &HostId, command: &[OsString]) -> Result<(), Failure> {
    let status = ::lab::exec_in(dir, host.as_str(), command)?;
    if status.success() {
        return Ok(());
    }
    let exit = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED);
    Err(Failure::new(exit, format!("the command ended with {status}")))
}

fn make(dir: &Path, host: &HostId, fault: Fault, by: Option<Duration>) -> Result<(), Failure> {
    let proxy = ::lab::Proxy::of(dir)?;
    let host = host.as_str();
    Ok(match fault {
        Fault::Delay => proxy.delay(host, by.unwrap_or_default()),
        Fault::Cut => proxy.cut(host),
        Fault::Reset => proxy.reset(host),
        Fault::Refuse => proxy.refuse(host),
        Fault::None => proxy.restore(host),
    }?)
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let exit = match error {
            LabError::Option { .. } | LabError::NoHost { .. } => USAGE,
            _ => FAILED,
        };
        Self::new(exit, error.to_string())
    }
}
