//! Plans: `godwit drain`, `restore`, `balance`, `rolling`, and plans as files.

mod carry;
mod rolling;
mod text;

use std::path::PathBuf;

use api::body::PlanRequest;
use clap::Subcommand;
use types::{HostId, PlanDocument, PlanGoal, PlanId, PlanRun};

use crate::complete;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::files;
use crate::output::Output;
use crate::watch::Watch;

pub(crate) use carry::How;
pub(crate) use rolling::Rolling;

/// Largest plan in bytes.
const MAX: u64 = 4 << 20;

/// `godwit drain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  godwit drain host-a\n  godwit drain host-a host-b --dry-run\n  \
                        godwit drain host-a --no-wait -o json\n\n\
                        Ctrl-C lets the moves under way end and begins no more; a second one \
                        leaves everything to itself. To go on, drain again."
)]
pub(crate) struct Drain {
    /// The hosts to empty. They get nothing new until they are restored or uncordoned.
    #[arg(required = true, add = complete::hosts())]
    hosts: Vec<HostId>,
    #[command(flatten)]
    how: How,
}

/// `godwit restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  godwit restore host-a\n  godwit restore host-a --dry-run")]
pub(crate) struct Restore {
    /// The hosts whose VMs are to come home. They are uncordoned.
    #[arg(required = true, add = complete::hosts())]
    hosts: Vec<HostId>,
    #[command(flatten)]
    how: How,
}

/// `godwit balance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  godwit balance --dry-run\n  godwit balance")]
pub(crate) struct Balance {
    #[command(flatten)]
    how: How,
}

pub(crate) async fn drain(args: Drain, output: &Output) -> Result<(), Failure> {
    carry::out(PlanGoal::Drain { hosts: args.hosts }, args.how, output).await
}

pub(crate) async fn restore(args: Restore, output: &Output) -> Result<(), Failure> {
    carry::out(PlanGoal::Restore { hosts: args.hosts }, args.how, output).await
}

pub(crate) async fn balance(args: Balance, output: &Output) -> Result<(), Failure> {
    carry::out(PlanGoal::Balance, args.how, output).await
}

pub(crate) async fn rolling(args: Rolling, output: &Output) -> Result<(), Failure> {
    rolling::run(args, output).await
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plan the emptying of hosts; nothing is touched.
    #[command(after_help = "Example:\n  godwit plan drain host-a -o plan.json")]
    Drain {
        /// The hosts.
        #[arg(required = true, add = complete::hosts())]
        hosts: Vec<HostId>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Plan the return of the VMs whose homes are these hosts; nothing is touched.
    #[command(after_help = "Example:\n  godwit plan restore host-a -o plan.json")]
    Restore {
        /// The hosts.
        #[arg(required = true, add = complete::hosts())]
        hosts: Vec<HostId>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Plan an even spread of load; nothing is touched.
    #[command(after_help = "Example:\n  godwit plan balance -o plan.json")]
    Balance {
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a plan: a file, or one that was applied.
    #[command(after_help = "Examples:\n  godwit plan show plan.json\n  \
                            godwit plan show 01890a5d-ac96-774b-bcce-b302099a8057 --watch")]
    Show {
        /// The plan's file, or the id that it has since it was applied.
        plan: String,
        #[command(flatten)]
        connect: Connect,
        #[command(flatten)]
        watch: Watch,
    },
    /// Carry out a plan as it stands in its file, unless the fleet has changed since.
    #[command(after_help = "Example:\n  godwit plan apply plan.json")]
    Apply {
        /// The plan's file; `-` reads standard input.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// List the plans that were applied, the newest first.
    #[command(after_help = "Examples:\n  godwit plan ls\n  godwit plan ls --watch")]
    Ls {
        #[command(flatten)]
        connect: Connect,
        #[command(flatten)]
        watch: Watch,
    },
    /// Let a plan begin no more moves; those under way go on to their ends.
    #[command(after_help = "Example:\n  godwit plan stop 01890a5d-ac96-774b-bcce-b302099a8057")]
    Stop {
        /// Its id.
        plan: PlanId,
        #[command(flatten)]
        connect: Connect,
    },
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Drain { hosts, connect } => make(PlanGoal::Drain { hosts }, connect, output).await,
        Command::Restore { hosts, connect } => {
            make(PlanGoal::Restore { hosts }, connect, output).await
        }
        Command::Balance { connect } => make(PlanGoal::Balance, connect, output).await,
        Command::Show { plan, connect, watch } => show(&plan, connect, watch, output).await,
        Command::Apply { file, how } => carry::apply(&read(&file)?, how, output).await,
        Command::Ls { connect, watch } => {
            let client = connect.client()?;
            let show =
                |runs: &Vec<PlanRun>| output.listed(runs, |run| run.id.to_string(), text::runs);
            watch.show(output, async || client.plans().await, show).await
        }
        Command::Stop { plan, connect } => {
            let run = connect.client()?.stop_plan(plan).await?;
            output.one(&run, plan, |run| text::run(run, output.style()))
        }
    }
}

async fn make(goal: PlanGoal, connect: Connect, output: &Output) -> Result<(), Failure> {
    let document = connect.client()?.plan(&PlanRequest { goal }).await?;
    output.result(&document, |document| text::document(document, output.style()))?;
    text::blockers(&document)
}

async fn show(plan: &str, connect: Connect, watch: Watch, output: &Output) -> Result<(), Failure> {
    if let Ok(id) = plan.parse::<PlanId>() {
        let client = connect.client()?;
        let show = |run: &PlanRun| output.render(run, |run| text::run(run, output.style()));
        return watch.show(output, async || client.plan_run(id).await, show).await;
    }
    let document = read(&PathBuf::from(plan))?;
    output.result(&document, |document| text::document(document, output.style()))
}

fn read(file: &std::path::Path) -> Result<PlanDocument, Failure> {
    files::json(file, MAX)
}
