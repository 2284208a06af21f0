//! `godwit host`: hosts of the fleet.

mod enroll;
mod places;
mod skeleton;

use api::body::{CordonRequest, HostView};
use clap::Subcommand;
use types::{Code, HostId, Problem};

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
    /// Show a host, and what it lacks.
    #[command(after_help = "Example:\n  godwit host show host-a")]
    Show {
        /// The host.
        #[arg(add = complete::hosts())]
        host: HostId,
        #[command(flatten)]
        connect: Connect,
    },
    /// Make a one-time token with which a machine becomes a host of that name.
    #[command(after_help = "Example:\n  godwit host add host-a --lifetime 10m")]
    Add(enroll::Add),
    /// Make this machine a host: a key, a certificate and, if asked, an agent.toml.
    #[command(
        after_help = "Example:\n  godwit host enroll --controller https://10.0.0.1:7443 --token gw1.host-a.0000 --write-config"
    )]
    Enroll(enroll::Enroll),
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Ls { connect, watch } => list(connect, watch, output).await,
        Command::Show { host, connect } => show(&host, connect, output).await,
        Command::Add(args) => enroll::add(args, output).await,
        Command::Enroll(args) => enroll::enroll(args, output).await,
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

async fn show(host: &HostId, connect: Connect, output: &Output) -> Result<(), Failure> {
    let hosts = connect.client()?.hosts().await?;
    let found = hosts.into_iter().find(|view| view.facts.host == *host);
    let view = found.ok_or_else(|| {
        Failure::from(Problem::new(Code::HostUnknown, format!("there is no host {host}")))
            .help("see `godwit host ls`; a host is known once its agent has been heard")
    })?;
    output.one(&view, host, details)
}

fn details(view: &HostView) -> String {
    let facts = &view.facts;
    let names = |names: &[types::PoolName]| {
        let names: Vec<&str> = names.iter().map(types::PoolName::as_str).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(" ") }
    };
    let vms: Vec<&str> = view.vms.iter().map(types::VmName::as_str).collect();
    let mut text = format!(
        "name      {}\nup        {}\naddress   {}\ncpus      {}\nmemory    {} ({} used)\n\
         qemu      {} ({})\nnetworks  {}\npools     {}\nvms       {}\nagent     {}\n",
        facts.host,
        if view.up { "yes" } else { "no" },
        facts.address,
        facts.cpus,
        facts.memory,
        facts.memory_used,
        facts.qemu,
        facts.accel,
        names(&facts.bridges),
        names(&facts.pools),
        if vms.is_empty() { "-".to_owned() } else { vms.join(" ") },
        facts.version,
    );
    for lack in &facts.lacks {
        text += &format!("lacks     {lack}\n");
    }
    text
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
