//! `godwit audit`: what happened.

use api::body::{HistoryEvent, HistoryQuery};
use clap::Subcommand;
use types::VmName;

use crate::complete;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Table, or_dash};

/// Events asked for at once.
const PAGE: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every recorded event, the oldest first.
    #[command(
        after_help = "Examples:\n  godwit audit history --vm web01\n  godwit audit history --after 120 -o json"
    )]
    History {
        /// Only events of this VM.
        #[arg(long, add = complete::vms())]
        vm: Option<VmName>,
        /// Only events after this one.
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
        /// At most so many events.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        #[command(flatten)]
        connect: Connect,
    },
}

pub(crate) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let Command::History { vm, mut after, limit, connect } = command;
    let client = connect.client()?;
    let limit = limit.unwrap_or(usize::MAX);
    let mut events = Vec::new();
    while events.len() < limit {
        let left = u32::try_from(limit - events.len()).unwrap_or(u32::MAX);
        let query = HistoryQuery { vm: vm.clone(), after, limit: Some(left.min(PAGE)) };
        let page = client.history(&query).await?;
        // An answer that does not go forward would never end.
        match page.last() {
            Some(last) if after.is_none_or(|after| last.seq > after) => after = Some(last.seq),
            _ => break,
        }
        events.extend(page);
    }
    events.truncate(limit);
    output.list(&events, |event| event.seq.to_string(), table)
}

fn table(events: &[HistoryEvent]) -> Table {
    let mut table = Table::new(["SEQ", "TIME", "VM", "ATTEMPT", "ACTOR", "EVENT", "DETAIL"]);
    for event in events {
        table.row([
            event.seq.to_string(),
            event.time.clone(),
            or_dash(event.vm.as_ref()),
            or_dash(event.attempt),
            event.actor.clone(),
            event.event.clone(),
            event.detail.clone().unwrap_or_default(),
        ]);
    }
    table
}
