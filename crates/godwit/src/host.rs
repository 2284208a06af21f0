//! `godwit host`: hosts of the fleet.

use api::body::{CordonRequest, HostView};
use clap::Subcommand;
use types::HostId;

use crate::colour::Tone;
use crate::complete;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Cell, Table};
use crate::watch::Watch;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the hosts.
    #[command(after_help = "Examples:\n  godwit host ls\n  godwit host ls -o wide --watch")]
    Ls {
        #[command(flatten)]
        connect: Connect,
        #[command(flatten)]
        watch: Watch,
    },
    /// Let nothing new go to a host; its VMs stay.
    #[command(after_help = "Example:\n  godwit host cordon host-b --reason \"new memory\"")]
    Cordon {
        /// The host.
        #[arg(add = complete::hosts())]
        host: HostId,
        /// Why, for others to read.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Let VMs go to a host again.
    #[command(after_help = "Example:\n  godwit host uncordon host-b")]
    Uncordon {
        /// The host.
        #[arg(add = complete::hosts())]
        host: HostId,
        #[command(flatten)]
        connect: Connect,
    },
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Ls { connect, watch } => list(connect, watch, output).await,
        Command::Cordon { host, reason, connect } => {
            let view = connect.client()?.cordon(&host, &CordonRequest { reason }).await?;
            output.one(&view, &host, |_| format!("{host} is cordoned: nothing new goes there\n"))
        }
        Command::Uncordon { host, connect } => {
            let view = connect.client()?.uncordon(&host).await?;
            output.one(&view, &host, |_| format!("{host} takes VMs again\n"))
        }
    }
}

async fn list(connect: Connect, watch: Watch, output: &Output) -> Result<(), Failure> {
    let client = connect.client()?;
    let show =
        |hosts: &Vec<HostView>| output.listed(hosts, |host| host.facts.host.to_string(), table);
    watch.show(output, async || client.hosts().await, show).await
}

fn table(hosts: &[HostView]) -> Table {
    let mut table = Table::new([
        "NAME", "UP", "MEMORY", "USED", "VMS", "ADDRESS", "CPUS", "ACCEL", "QEMU", "AGENT",
    ])
    .narrow(6);
    for host in hosts {
        let facts = &host.facts;
        let up = match (host.up, &host.cordon) {
            (true, None) => ("yes", Tone::Good),
            (true, Some(_)) => ("cordoned", Tone::Odd),
            (false, _) => ("no", Tone::Bad),
        };
        table.row([
            facts.host.to_string().into(),
            Cell::new(up.0, up.1),
            facts.memory.to_string().into(),
            facts.memory_used.to_string().into(),
            host.vms.len().to_string().into(),
            facts.address.clone().into(),
            facts.cpus.to_string().into(),
            facts.accel.clone().into(),
            facts.qemu.clone().into(),
            facts.version.clone().into(),
        ]);
    }
    table
}
