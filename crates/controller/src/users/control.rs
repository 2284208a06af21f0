//! The controller itself: what it is, its backup, and what only a person can settle.

use api::body::{Backup, ControllerView, ResolveRequest, VmView};
use types::{Problem, VmName};

use super::find;
use super::vms::view;
use crate::call::Call;
use crate::core::{self, Word};
use crate::records::{Records, Scope};
use crate::routes::Plain;
use crate::{backup, restored};

pub(super) async fn show(call: Plain<ControllerView>) -> Result<ControllerView, Problem> {
    let shell = call.shell;
    Ok(ControllerView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: shell.incarnation(),
        revision: shell.revision(),
        restored: shell.restored().cloned(),
        awaited: restored::awaited(&shell).await?,
        in_doubt: restored::doubts(&shell).await?,
    })
}

pub(super) async fn take_backup(call: Plain<Backup>) -> Result<Backup, Problem> {
    tracing::info!(user = call.user(), "backup");
    backup::take(&call.shell).await
}

pub(super) async fn resolve(call: Call<VmName, ResolveRequest, VmView>) -> Result<VmView, Problem> {
    let (id, found) = find(&call.shell, &call.at).await?;
    let mut scope = Scope::vm(id);
    if let Some(attempt) = found.own.as_ref().and_then(|own| own.attempt) {
        scope = scope.attempt(attempt);
    }
    let word = Word { user: call.user(), statement: call.body.statement.clone() };
    let (shell, host) = (call.shell.clone(), call.body.owner.clone());
    let decide = move |records: &mut Records| {
        let facts = shell.seen().vm(&host, id).map(|said| said.facts.clone());
        let now = shell.incarnation();
        let mut own = records.own.clone();
        let mut attempt = records.attempt.take();
        let vm = records.vm_mut()?;
        let notes =
            core::resolve(vm, &mut own, attempt.as_mut(), (&host, facts.as_ref()), now, &word)?;
        (records.own, records.attempt) = (own, attempt);
        records.notes = notes;
        view(&shell, id, records.clone())
    };
    call.shell.change_on(call.terms.clone(), scope, decide).await
}
