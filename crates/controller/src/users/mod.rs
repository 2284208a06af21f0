//! What users ask.

mod events;
mod hosts;
mod migrations;
mod preflight;
mod vms;

use api::body::{HistoryEvent, HistoryQuery, Nothing};
use api::contract;
use store::Range;
use types::{Problem, VmId, VmName};

use crate::call::Call;
use crate::keys;
use crate::records::{Records, Scope, parse};
use crate::routes::Routes;
use crate::shell::{Shell, parse_all};

/// Most events of one answer.
const MAX_HISTORY: usize = 10_000;
/// Events of one answer where nothing is said.
const HISTORY: u32 = 1000;
/// Events read at a time.
const PAGE: usize = 1000;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(contract::HOSTS, hosts::list)
        .add(contract::HOST_CORDON, hosts::cordon)
        .add(contract::HOST_UNCORDON, hosts::uncordon)
        .add(contract::HISTORY, history)
        .respond(contract::EVENTS, events::follow)
        .add(contract::VMS, vms::list)
        .add(contract::VM_CREATE, vms::create)
        .add(contract::VM, vms::show)
        .add(contract::VM_DELETE, vms::remove)
        .add(contract::VM_START, vms::start)
        .add(contract::VM_STOP, vms::stop)
        .add(contract::VM_SHUTDOWN, vms::shutdown)
        .add(contract::VM_REBOOT, vms::reboot)
        .add(contract::VM_SET, vms::set)
        .add(contract::VM_PAUSE, vms::pause)
        .add(contract::VM_RESUME, vms::resume)
        .add(contract::VM_PREFLIGHT, preflight::show)
        .add(contract::VM_MIGRATE, migrations::migrate)
        .add(contract::VM_CANCEL, migrations::cancel)
        .add(contract::ATTEMPT, migrations::show)
}

async fn history(
    call: Call<(), Nothing, Vec<HistoryEvent>, HistoryQuery>,
) -> Result<Vec<HistoryEvent>, Problem> {
    let Call { shell, query, .. } = call;
    let limit = (query.limit.unwrap_or(HISTORY) as usize).min(MAX_HISTORY);
    let mut found: Vec<HistoryEvent> = Vec::new();
    let mut after = query.after.unwrap_or(0);
    while found.len() < limit {
        let range =
            Range { prefix: keys::HISTORY.into(), after: Some(keys::history(after)), limit: PAGE };
        let page: Vec<HistoryEvent> = parse_all(&shell.range(range).await?)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let of_vm = |e: &HistoryEvent| query.vm.is_none() || e.vm == query.vm;
        found.extend(page.into_iter().filter(of_vm));
    }
    found.truncate(limit);
    Ok(found)
}

/// The VM of that name or UUID.
pub(crate) async fn find(shell: &Shell, wanted: &VmName) -> Result<(VmId, Records), Problem> {
    let unknown = || vms::unknown(wanted);
    let entry = shell.read(vec![keys::name(wanted)]).await?.into_iter().next().flatten();
    let id: VmId = match parse(entry.as_ref())? {
        Some(id) => id,
        None => wanted.as_str().parse().map_err(|_| unknown())?,
    };
    let records = shell.records(&Scope::vm(id)).await?;
    if records.vm.is_none() {
        return Err(unknown());
    }
    Ok((id, records))
}
