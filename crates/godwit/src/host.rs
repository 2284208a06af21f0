//! `godwit host`: hosts of the fleet.

use api::body::HostView;
use clap::Subcommand;

use crate::colour::Tone;
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
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let Command::Ls { connect, watch } = command;
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
        let up = if host.up { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
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
