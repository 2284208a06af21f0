//! `godwit rolling`: one host after the other emptied, worked upon and filled again.

use std::time::{Duration, Instant};

use api::Client;
use api::body::PlanRequest;
use tokio::process::Command;
use tokio::time::sleep;
use types::{HostId, PlanGoal};

use super::{carry, text};
use crate::complete;
use crate::connect::Connect;
use crate::failure::{CANCELLED, FAILED, Failure, TIMED_OUT};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::span;

/// For a host to be heard again after what was done to it.
const BACK: Duration = Duration::from_secs(1800);
const POLL: Duration = Duration::from_secs(1);

/// `godwit rolling`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    godwit rolling --hosts host-a,host-b --run 'ssh $GODWIT_HOST apt-get -y upgrade'\n  \
    godwit rolling --hosts host-a,host-b --run true --dry-run\n\n\
    The first trouble ends it; the host in question stays cordoned, its VMs stay where they are.")]
pub(crate) struct Rolling {
    /// The hosts, in their order.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST,…", add = complete::hosts())]
    hosts: Vec<HostId>,
    /// What to do with each empty host: a line for `sh`, with GODWIT_HOST set. It has to
    /// end with 0.
    #[arg(long, value_name = "COMMAND")]
    run: String,
    /// Touch nothing; show what each host's drain would move.
    #[arg(long)]
    dry_run: bool,
    /// How long a host may take to be heard again, such as 10m [default: 30m].
    #[arg(long, value_parser = span::parse, value_name = "SPAN")]
    timeout: Option<Duration>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) async fn run(args: Rolling, output: &Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let timeout = args.timeout.unwrap_or(BACK);
    if args.dry_run {
        for host in &args.hosts {
            let goal = PlanGoal::Drain { hosts: vec![host.clone()] };
            let document = client.plan(&PlanRequest { goal }).await?;
            output.result(&document, |document| text::document(document, output.style()))?;
            text::blockers(&document)?;
        }
        return Ok(());
    }
    let mut interrupt = Interrupt::catch()?;
    for (i, host) in args.hosts.iter().enumerate() {
        output.message(&format!("{host} ({} of {})", i + 1, args.hosts.len()));
        carried(&client, PlanGoal::Drain { hosts: vec![host.clone()] }, &mut interrupt, output)
            .await?;
        work(host, &args.run, output).await?;
        heard(&client, host, timeout, &mut interrupt).await?;
        carried(&client, PlanGoal::Restore { hosts: vec![host.clone()] }, &mut interrupt, output)
            .await?;
    }
    Ok(())
}

async fn carried(
    client: &Client,
    goal: PlanGoal,
    interrupt: &mut Interrupt,
    output: &Output,
) -> Result<(), Failure> {
    let run = carry::begin(client, &PlanRequest { goal }, output).await?;
    let run = carry::follow(client, run, carry::TIMEOUT, interrupt, output).await?;
    output.one(&run, run.id, |run| text::run(run, output.style()))?;
    carry::verdict(&run)
}

async fn work(host: &HostId, line: &str, output: &Output) -> Result<(), Failure> {
    output.message(&format!("{host}: {line}"));
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("GODWIT_HOST", host.as_str()).stdin(std::process::Stdio::null());
    let stays = format!("{host} stays cordoned; `godwit restore {host}` brings its VMs back");
    let status = command.status().await.map_err(|e| Failure::of(format!("sh: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(Failure::new(FAILED, format!("{host}: `{line}` ended with {status}")).help(stays))
        }
    }
}

/// Waits until the host's agent is heard.
async fn heard(
    client: &Client,
    host: &HostId,
    timeout: Duration,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let hosts = client.hosts().await?;
        if hosts.iter().any(|view| view.facts.host == *host && view.up) {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            let span = span::show(timeout.as_secs_f64());
            return Err(Failure::new(TIMED_OUT, format!("{host} has not been heard for {span}"))
                .help(format!("see to it, then `godwit restore {host}`")));
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = interrupt.next() => {
                return Err(Failure::new(CANCELLED, format!("stopped while {host} is away"))
                    .help(format!("once it is back: `godwit restore {host}`")));
            }
        }
    }
}
