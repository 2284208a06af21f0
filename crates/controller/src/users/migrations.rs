//! Migrations: begun, shown, given up.

use std::fs::File;
use std::io::Read;

use api::body::{AttemptView, MigrateRequest, Nothing};
use types::{AttemptId, Code, Problem, RunState, VmName};
use uuid::Uuid;

use super::find;
use super::preflight::target;
use crate::call::{Call, Terms};
use crate::core::{self, Attempt, Purpose};
use crate::intent;
use crate::records::{Records, Scope};
use crate::shell::Shell;
use crate::when::now_ms;

/// Blackout allowed where nothing is said, in milliseconds.
const BLACKOUT: u64 = 300;
/// Bytes of an attempt's secret.
const SECRET: usize = 32;

/// A migration that is to begin.
#[derive(Debug, Clone)]
pub(crate) struct Begin {
    pub(crate) attempt: AttemptId,
    pub(crate) request: MigrateRequest,
    pub(crate) purpose: Purpose,
    pub(crate) user: String,
}

pub(super) async fn migrate(
    call: Call<VmName, MigrateRequest, AttemptView>,
) -> Result<AttemptView, Problem> {
    let begin_with = Begin {
        attempt: AttemptId(Uuid::now_v7()),
        request: call.body.clone(),
        purpose: Purpose::Settle,
        user: call.user(),
    };
    begin(&call.shell, call.terms.clone(), &call.at, begin_with).await
}

/// Begins a migration that passes its preflight.
pub(crate) async fn begin(
    shell: &Shell,
    terms: Terms,
    vm: &VmName,
    wanted: Begin,
) -> Result<AttemptView, Problem> {
    let Begin { attempt, request, purpose, user } = wanted;
    let (id, records) = find(shell, vm).await?;
    let seen = shell.observed(id, &records);
    let to = target(shell, id, records, request.to.as_ref()).await?;
    let resting = seen.is_some_and(|seen| seen.facts.state == RunState::Paused);
    let request = core::Request {
        id: attempt,
        vm: id,
        to,
        secret: secret()?,
        verify: request.verify,
        blackout_budget_ms: request.blackout_budget_ms.unwrap_or(BLACKOUT),
        resting,
        user,
        now_ms: now_ms(),
    };
    let inner = shell.clone();
    let decide = move |records: &mut Records| {
        let mut vm = records.vm_mut()?.clone();
        let own = records.own.as_mut().ok_or_else(|| not_running(&vm.spec.name))?;
        if vm.desired == RunState::Stopped {
            return Err(not_running(&vm.spec.name));
        }
        vm.home = core::home(vm.home.as_ref(), &own.owner, purpose);
        let (attempt, notes) = core::migrate(own, &vm, request.clone())?;
        (records.vm, records.attempt, records.notes) = (Some(vm), Some(attempt), notes);
        view(&inner, records.attempt.as_ref())
    };
    shell.change_on(terms, Scope::vm(id).attempt(attempt), decide).await
}

pub(super) async fn cancel(
    call: Call<VmName, Nothing, AttemptView>,
) -> Result<AttemptView, Problem> {
    let (user, shell) = (call.user(), call.shell.clone());
    let (id, records) = find(&shell, &call.at).await?;
    let attempt =
        records.own.and_then(|own| own.attempt).ok_or_else(|| core::no_migration(&call.at))?;
    let decide = move |records: &mut Records| {
        let (own, attempt) = records.migration()?;
        records.notes = core::cancel(own, attempt, &user)?;
        view(&shell, records.attempt.as_ref())
    };
    call.change(Scope::vm(id).attempt(attempt), decide).await
}

pub(super) async fn show(
    call: Call<AttemptId, Nothing, AttemptView>,
) -> Result<AttemptView, Problem> {
    let shell = call.shell;
    let records = shell.records(&intent::scope(&shell, call.at).await?).await?;
    view(&shell, records.attempt.as_ref())
}

fn view(shell: &Shell, attempt: Option<&Attempt>) -> Result<AttemptView, Problem> {
    let record = &attempt
        .ok_or_else(|| Problem::new(Code::AttemptUnknown, "there is no such attempt"))?
        .record;
    let progress = shell.seen().progress(record.id);
    Ok(AttemptView { phase: record.phase, progress, report: record.report.clone() })
}

fn not_running(vm: &VmName) -> Problem {
    Problem::new(Code::VmNotRunning, format!("{vm} does not run"))
        .remedy(format!("start it first: `godwit vm start {vm}`"))
}

/// Random bytes from the kernel, in hexadecimal.
fn secret() -> Result<String, Problem> {
    let mut bytes = [0; SECRET];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|e| Problem::new(Code::Internal, format!("/dev/urandom: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
