//! `godwit vm`: virtual machines.

mod console;
mod create;
mod power;
mod set;
mod show;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use api::Client;
use api::body::{StartRequest, VmView};
use clap::Subcommand;
use serde_json::json;
use types::{HostId, RunState, VmName};

use self::wait::Goal;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::wait::Wait;
use crate::watch::Watch;
use crate::{complete, interrupt::Interrupt};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a VM from a TOML file; it is stopped at first.
    #[command(after_help = "Examples:\n  godwit vm create -f web01.toml\n  godwit vm create -f -")]
    Create {
        /// The VM's spec; `-` is standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        connect: Connect,
    },
    /// List the VMs.
    #[command(
        after_help = "Examples:\n  godwit vm ls\n  godwit vm ls -o wide --watch\n  godwit vm ls -o json"
    )]
    Ls {
        #[command(flatten)]
        connect: Connect,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show a VM.
    #[command(after_help = "Examples:\n  godwit vm show web01\n  godwit vm show web01 -o yaml")]
    Show {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        watch: Watch,
    },
    /// Start a stopped VM.
    #[command(
        after_help = "Examples:\n  godwit vm start web01\n  godwit vm start web01 --on host-b"
    )]
    Start {
        /// Where; chosen by room when absent.
        #[arg(long, value_name = "HOST", add = complete::hosts())]
        on: Option<HostId>,
        #[command(flatten)]
        act: Act,
    },
    /// Ask a VM's guest to power off, and wait until it has; or cut its power.
    #[command(
        after_help = "Examples:\n  godwit vm stop web01 --timeout 1m\n  godwit vm stop web01 --hard"
    )]
    Stop(power::Args),
    /// Ask a VM's guest to power off, and start it again; or reset it at once.
    #[command(after_help = "Examples:\n  godwit vm reboot web01\n  godwit vm reboot web01 --hard")]
    Reboot(power::Args),
    /// Change a VM's spec: labels, owner and tier at any time, the rest while it is stopped.
    #[command(after_help = "Examples:\n  \
        godwit vm set web01 --tier critical --label example.org/rack=7\n  \
        godwit vm set web01 --vcpus 4 --memory 8GiB")]
    Set(set::Args),
    /// Type at a VM's serial port, and see what it writes; follows the VM to its new host.
    Console(console::Args),
    /// Halt a VM's processors.
    #[command(after_help = "Example:\n  godwit vm pause web01")]
    Pause(Act),
    /// Let a paused VM go on.
    #[command(after_help = "Example:\n  godwit vm resume web01")]
    Resume(Act),
    /// Forget a stopped VM; its disks stay.
    #[command(after_help = "Example:\n  godwit vm rm web01")]
    Rm(One),
}

/// A VM that is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// The VM, by name or UUID.
    #[arg(add = complete::vms())]
    vm: VmName,
    #[command(flatten)]
    connect: Connect,
}

/// A VM whose state is to change.
#[derive(Debug, clap::Args)]
pub(crate) struct Act {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Create { file, connect } => create::run(&file, connect, output).await,
        Command::Ls { connect, watch } => {
            let client = connect.client()?;
            let show =
                |vms: &Vec<VmView>| output.listed(vms, |vm| vm.spec.name.to_string(), show::list);
            watch.show(output, async || client.vms().await, show).await
        }
        Command::Show { one: One { vm, connect }, watch } => {
            let client = connect.client()?;
            let show = |view: &VmView| output.render(view, show::one);
            watch.show(output, async || client.vm(&vm).await, show).await
        }
        Command::Start { on, act } => {
            let request = StartRequest { on };
            let ask = async |client: &Client, vm: &VmName| client.start(vm, &request).await;
            change(act, RunState::Running, ask, output).await
        }
        Command::Stop(args) => power::stop(args, output).await,
        Command::Reboot(args) => power::reboot(args, output).await,
        Command::Set(args) => set::run(args, output).await,
        Command::Console(args) => console::run(args, output).await,
        Command::Pause(act) => {
            change(act, RunState::Paused, async |client, vm| client.pause(vm).await, output).await
        }
        Command::Resume(act) => {
            change(act, RunState::Running, async |client, vm| client.resume(vm).await, output).await
        }
        Command::Rm(One { vm, connect }) => {
            connect.client()?.delete_vm(&vm).await?;
            output.one(&json!({ "vm": vm, "removed": true }), &vm, |_| format!("{vm} is removed\n"))
        }
    }
}

/// How long a change is waited for.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Asks for a change and waits until it is there.
async fn change(
    act: Act,
    state: RunState,
    ask: impl AsyncFnOnce(&Client, &VmName) -> Result<VmView, api::ClientError>,
    output: &Output,
) -> Result<(), Failure> {
    let Act { one: One { vm, connect }, wait } = act;
    let client = connect.client()?;
    let work = async {
        // An error that is shown already is an older one's.
        let before = client.vm(&vm).await?.error;
        let view = ask(&client, &vm).await?;
        if !wait.wanted() {
            let asked = |view: &VmView| format!("{} is asked to be {state}\n", view.spec.name);
            return output.one(&view, &view.spec.name, asked);
        }
        let goal = Goal::asked(state, before);
        let view = wait::until(&client, &vm, goal, wait.timeout(TIMEOUT), output).await?;
        output.one(&view, &view.spec.name, show::sentence)
    };
    let goes_on = format!("{vm} is still to be {state}");
    let help = format!("`godwit vm show {vm} --watch` follows it");
    Interrupt::catch()?.or_detach(work, goes_on, help).await
}
