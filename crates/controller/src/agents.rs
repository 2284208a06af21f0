//! What hosts ask: intent, changes of ownership, events.

use std::time::Duration;

use api::body::{AttemptEvent, AttemptIntent, Nothing, OwnershipRequest, SyncReply, SyncRequest};
use api::contract;
use tokio::time::{Instant, timeout_at};
use types::{
    AttemptId, AttemptPhase, Code, HostId, Incarnation, Ownership, Problem, Progress, VmId,
};

use crate::call::Call;
use crate::core::{self, Attempt, Caller, Note};
use crate::intent;
use crate::records::{Records, Scope};
use crate::restored;
use crate::routes::Routes;
use crate::shell::Shell;
use crate::when::now_ms;

/// Longest wait for news. Shorter than the time after which a host that is not
/// heard counts as down.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Most VMs or attempts that a host may speak of.
const MAX_FACTS: usize = 4096;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(contract::AGENT_SYNC, sync)
        .add(contract::AGENT_ATTEMPT, attempt)
        .add(contract::AGENT_EVENT, event)
        .add(contract::AGENT_PROGRESS, progress)
        .add(contract::AGENT_CLAIM, claim)
        .add(contract::AGENT_REASSERT, reassert)
        .add(contract::AGENT_GIVE_BACK, give_back)
        .add(contract::AGENT_SETTLE, settle)
}

async fn sync(call: Call<(), SyncRequest, SyncReply>) -> Result<SyncReply, Problem> {
    let host = call.host()?;
    let Call { shell, body: request, .. } = call;
    if request.host.host != host {
        let detail = format!("{host} cannot speak for {}", request.host.host);
        return Err(Problem::new(Code::NotAllowed, detail)
            .remedy("name the host in agent.toml as its certificate does"));
    }
    if request.vms.len().max(request.attempts.len()) > MAX_FACTS {
        let detail = format!("a host has at most {MAX_FACTS} VMs and attempts");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let deadline = Instant::now() + Duration::from_millis(request.wait_ms).min(MAX_WAIT);
    // A revision of another store says nothing of this one.
    let ours = request.incarnation.is_none_or(|theirs| theirs == shell.incarnation());
    let since = if ours { request.since } else { 0 };
    if request.incarnation.is_some_and(|theirs| theirs > shell.incarnation()) {
        tracing::error!(%host, "ALARM: this host has seen a newer store; restore a backup of that");
    }
    shell.meet(&host).await?;
    shell.hear(request.host.clone(), &request.vms, since);
    if shell.restored().is_some() {
        restored::look(&shell, &host, &request.vms).await?;
    }
    for vm in changed_by_facts(&shell, &host, &request).await? {
        take_facts(&shell, &host, vm).await?;
    }
    news(&shell, &host, since, deadline).await;
    intent::intent(&shell, &host, &request).await
}

/// VMs whose records the facts change.
async fn changed_by_facts(
    shell: &Shell,
    host: &HostId,
    request: &SyncRequest,
) -> Result<Vec<VmId>, Problem> {
    let mut keys = Vec::new();
    for facts in &request.vms {
        keys.extend(Scope::vm(facts.vm).keys());
    }
    let entries = shell.read(keys).await?;
    let mut changed = Vec::new();
    let each = Scope::vm(VmId(uuid::Uuid::nil())).keys().len();
    for (facts, entries) in request.vms.iter().zip(entries.chunks(each)) {
        let scope = Scope::vm(facts.vm);
        let mut records = Records::read(&scope, entries)?;
        apply_facts(shell, host, facts.vm, &mut records);
        if !records.notes.is_empty() {
            changed.push(facts.vm);
        }
    }
    Ok(changed)
}

async fn take_facts(shell: &Shell, host: &HostId, vm: VmId) -> Result<(), Problem> {
    let (inner, host) = (shell.clone(), host.clone());
    let decide = move |records: &mut Records| {
        apply_facts(&inner, &host, vm, records);
        Ok(())
    };
    shell.change(Scope::vm(vm), decide).await
}

/// Facts are believed only of the VM's owner.
fn apply_facts(shell: &Shell, host: &HostId, vm: VmId, records: &mut Records) {
    let Some(seen) = shell.observed(vm, records) else { return };
    if !core::confirmed(records.own.as_ref(), shell.incarnation()) {
        return;
    }
    let (Some(record), Some(own)) = (&mut records.vm, &records.own) else { return };
    if own.owner != *host {
        return;
    }
    records.notes.extend(core::machine_seen(record, own, &seen.facts));
    records.notes.extend(core::powered_off(record, own, &seen));
    records.notes.extend(core::halted(record, own, &seen));
}

/// Returns once something newer than `since` concerns the host, or at the deadline.
async fn news(shell: &Shell, host: &HostId, since: u64, deadline: Instant) {
    let mut news = shell.news();
    // A revision from the future is of another store.
    let fresh = |news: &std::collections::BTreeMap<HostId, u64>| {
        since == 0 || since < shell.concerns(news, host) || since > shell.revision()
    };
    // At the deadline the intent is told as it is.
    let _ = timeout_at(deadline, news.wait_for(fresh)).await;
}

async fn attempt(call: Call<AttemptId, Nothing, AttemptIntent>) -> Result<AttemptIntent, Problem> {
    let (host, shell) = (call.host()?, call.shell);
    let records = shell.records(&intent::scope(&shell, call.at).await?).await?;
    party(&host, records.attempt.as_ref())?;
    certain(&shell, &records)?;
    intent::attempt(records)
}

async fn event(
    call: Call<AttemptId, AttemptEvent, AttemptIntent>,
) -> Result<AttemptIntent, Problem> {
    let host = call.host()?;
    let Call { shell, at: id, body: event, .. } = call;
    let scope = intent::scope(&shell, id).await?;
    let inner = shell.clone();
    let decide = move |records: &mut Records| {
        party(&host, records.attempt.as_ref())?;
        certain(&inner, records)?;
        // A removed VM has no owner; what its attempts report is kept all the same.
        let own = records.own.clone().or(records.gone.as_ref().and_then(|g| g.own.clone()));
        if let (Some(own), Some(attempt)) = (own, &mut records.attempt) {
            records.notes = core::event(&own, attempt, &host, &event, now_ms())?;
            let left = event.patch.powered_off == Some(true) && own.owner != host;
            // An event that was taken before has no notes, and nothing to add.
            if let (true, false, Some(vm)) = (left, records.notes.is_empty(), &mut records.vm) {
                records.notes.extend(core::powered_off_in_flight(vm, &host));
            }
        }
        intent::attempt(records.clone())
    };
    shell.change(scope, decide).await
}

async fn progress(call: Call<AttemptId, Progress, Nothing>) -> Result<Nothing, Problem> {
    let host = call.host()?;
    let Call { shell, at: id, body: progress, .. } = call;
    let records = shell.records(&intent::scope(&shell, id).await?).await?;
    let attempt = party(&host, records.attempt.as_ref())?;
    if attempt.record.phase != AttemptPhase::Done {
        shell.seen().advance(id, progress);
    }
    Ok(Nothing {})
}

/// The attempt, if the host is one of its two sides.
fn party<'a>(host: &HostId, attempt: Option<&'a Attempt>) -> Result<&'a Attempt, Problem> {
    let attempt =
        attempt.ok_or_else(|| Problem::new(Code::AttemptUnknown, "there is no such attempt"))?;
    if attempt.record.from == *host || attempt.record.to == *host {
        return Ok(attempt);
    }
    let detail = format!("{host} has no part in attempt {}", attempt.record.id);
    Err(Problem::new(Code::NotAllowed, detail))
}

/// Of a restored store that is not confirmed yet, hosts are told nothing; they ask again.
fn certain(shell: &Shell, records: &Records) -> Result<(), Problem> {
    if core::confirmed(records.own.as_ref(), shell.incarnation()) {
        return Ok(());
    }
    let detail = "the store was restored, and what it says of this VM is not confirmed yet";
    Err(Problem::new(Code::StoreUnavailable, detail))
}

type OwnershipCall = Call<VmId, OwnershipRequest, Ownership>;

/// One of the core's four transitions.
type Transition = fn(&mut Ownership, &mut Attempt, Caller<'_>, i64) -> Result<Vec<Note>, Problem>;

async fn transition(call: OwnershipCall, transition: Transition) -> Result<Ownership, Problem> {
    let host = call.host()?;
    let Call { shell, at: vm, body: request, .. } = call;
    same_incarnation(shell.incarnation(), &request)?;
    let scope = Scope::vm(vm).attempt(request.attempt);
    let inner = shell.clone();
    let decide = move |records: &mut Records| {
        certain(&inner, records)?;
        let (own, attempt) = records.migration()?;
        let caller = Caller { host: &host, vm, request: &request };
        let notes = transition(own, attempt, caller, now_ms())?;
        let own = own.clone();
        records.notes = notes;
        Ok(own)
    };
    shell.change(scope, decide).await
}

fn same_incarnation(now: Incarnation, request: &OwnershipRequest) -> Result<(), Problem> {
    if now == request.incarnation {
        return Ok(());
    }
    let detail = format!("the store's incarnation is {}, not {}", now.0, request.incarnation.0);
    Err(Problem::new(Code::Conflict, detail))
}

async fn claim(call: OwnershipCall) -> Result<Ownership, Problem> {
    transition(call, |o, a, c, _| core::claim(o, a, c)).await
}

async fn give_back(call: OwnershipCall) -> Result<Ownership, Problem> {
    transition(call, |o, a, c, _| core::give_back(o, a, c)).await
}

async fn reassert(call: OwnershipCall) -> Result<Ownership, Problem> {
    transition(call, core::reassert).await
}

async fn settle(call: OwnershipCall) -> Result<Ownership, Problem> {
    transition(call, core::settle).await
}
