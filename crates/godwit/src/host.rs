//! `godwit host`: hosts of the fleet.

use api::body::HostView;
use clap::Subcommand;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the hosts.
    #[command(after_help = "Example:\n  godwit host ls")]
    Ls {
        #[command(flatten)]
        connect: Connect,
    },
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let Command::Ls { connect } = command;
    let hosts = connect.client()?.hosts().await?;
    output.result(&hosts, |hosts| table(hosts))
}

fn table(hosts: &[HostView]) -> String {
    let mut table =
        Table::new(["NAME", "UP", "ADDRESS", "CPUS", "MEMORY", "USED", "ACCEL", "QEMU", "VMS"]);
    for host in hosts {
        let facts = &host.facts;
        table.row([
            facts.host.to_string(),
            if host.up { "yes" } else { "no" }.to_owned(),
            facts.address.clone(),
            facts.cpus.to_string(),
            facts.memory.to_string(),
            facts.memory_used.to_string(),
            facts.accel.clone(),
            facts.qemu.clone(),
            host.vms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    table.text()
}
