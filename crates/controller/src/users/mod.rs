//! What users ask.

mod migrations;
mod vms;

use api::body::{HistoryEvent, HistoryQuery, HostView};
use api::{Json, Peer, Rejection, path};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use store::Range;
use types::{Problem, VmId, VmName};

use crate::fleet::Fleet;
use crate::keys;
use crate::param::Asked;
use crate::records::{Records, Scope, parse};
use crate::shell::{Shell, parse_all};

type Answer<T> = Result<Json<T>, Rejection>;

/// Most events of one answer.
const MAX_HISTORY: usize = 10_000;
/// Events of one answer where nothing is said.
const HISTORY: u32 = 1000;
/// Events read at a time.
const PAGE: usize = 1000;

pub(crate) fn routes() -> Router<Shell> {
    Router::new()
        .route(path::HOSTS, get(hosts))
        .route(path::HISTORY, get(history))
        .route(path::VMS, get(vms::list).post(vms::create))
        .route(path::VM, get(vms::show).delete(vms::remove))
        .route(path::VM_START, post(vms::start))
        .route(path::VM_STOP, post(vms::stop))
        .route(path::VM_PAUSE, post(vms::pause))
        .route(path::VM_RESUME, post(vms::resume))
        .route(path::VM_MIGRATE, post(migrations::migrate))
        .route(path::VM_CANCEL, post(migrations::cancel))
        .route(path::ATTEMPT, get(migrations::show))
}

async fn hosts(State(shell): State<Shell>, peer: Peer) -> Answer<Vec<HostView>> {
    peer.admin()?;
    Ok(Json(Fleet::read(&shell).await?.views(&shell)))
}

async fn history(
    State(shell): State<Shell>,
    peer: Peer,
    Asked(query): Asked<HistoryQuery>,
) -> Answer<Vec<HistoryEvent>> {
    peer.admin()?;
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
    Ok(Json(found))
}

/// The VM of that name or UUID.
async fn find(shell: &Shell, wanted: &VmName) -> Result<(VmId, Records), Problem> {
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
