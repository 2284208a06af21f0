//! Records as they are read together, changed, and written together.

use std::collections::BTreeSet;

use api::body::Cordon;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Entry, Transaction};
use types::{
    AttemptId, AttemptPhase, Code, HostId, Ownership, PlanId, PlanRun, Problem, VmId, VmName,
};

use crate::core::{Attempt, Note, Vm};
use crate::keys;

/// Which records a change is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The VM.
    pub(crate) vm: Option<VmId>,
    /// The host, where it is about that.
    pub(crate) host: Option<HostId>,
    /// The VM's name, where that record changes too.
    pub(crate) name: Option<VmName>,
    /// The attempt.
    pub(crate) attempt: Option<AttemptId>,
    /// The plan that was applied.
    pub(crate) plan: Option<PlanId>,
}

impl Scope {
    pub(crate) fn vm(vm: VmId) -> Self {
        Self { vm: Some(vm), ..Self::default() }
    }

    pub(crate) fn host(host: HostId) -> Self {
        Self { host: Some(host), ..Self::default() }
    }

    pub(crate) fn plan(plan: PlanId) -> Self {
        Self { plan: Some(plan), ..Self::default() }
    }

    pub(crate) fn attempt(self, attempt: AttemptId) -> Self {
        Self { attempt: Some(attempt), ..self }
    }

    pub(crate) fn name(self, name: VmName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The keys of the records, in the order that [`Records::read`] expects.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        let of_vm = |vm| [keys::vm(vm), keys::own(vm), keys::gone(vm)];
        let mut keys: Vec<Vec<u8>> = self.vm.map(of_vm).into_iter().flatten().collect();
        keys.extend(self.host.as_ref().map(keys::cordon));
        keys.extend(self.attempt.map(keys::attempt));
        keys.extend(self.name.as_ref().map(keys::name));
        keys.extend(self.plan.map(keys::plan));
        keys
    }
}

/// What a removed VM was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) vm: Vm,
    pub(crate) own: Option<Ownership>,
}

/// The records of a [`Scope`], all of one moment. A record that becomes `None`
/// is deleted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Records {
    pub(crate) vm: Option<Vm>,
    pub(crate) own: Option<Ownership>,
    pub(crate) gone: Option<Gone>,
    pub(crate) cordon: Option<Cordon>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) name: Option<VmId>,
    pub(crate) run: Option<PlanRun>,
    /// The revision of the VM's last change; 0: there is no VM.
    pub(crate) vm_revision: u64,
    /// The revision of its ownership's last change; 0: it never had an owner.
    pub(crate) own_revision: u64,
    /// What the history says about the change.
    pub(crate) notes: Vec<Note>,
}

impl Records {
    /// Reads what the store gave for a scope's keys.
    pub(crate) fn read(scope: &Scope, entries: &[Option<Entry>]) -> Result<Self, Problem> {
        let of_vm = scope.vm.is_some();
        let revision = |index| {
            let entry = entries.get(index).and_then(Option::as_ref).filter(|_| of_vm);
            entry.map_or(0, |e: &Entry| e.revision)
        };
        let (vm_revision, own_revision) = (revision(0), revision(1));
        let mut entries = entries.iter().map(Option::as_ref);
        // Only what the scope has stands among the entries.
        let mut next = |there: bool| if there { entries.next().flatten() } else { None };
        Ok(Self {
            vm: parse(next(of_vm))?,
            own: parse(next(of_vm))?,
            gone: parse(next(of_vm))?,
            cordon: parse(next(scope.host.is_some()))?,
            attempt: parse(next(scope.attempt.is_some()))?,
            name: parse(next(scope.name.is_some()))?,
            run: parse(next(scope.plan.is_some()))?,
            vm_revision,
            own_revision,
            notes: Vec::new(),
        })
    }

    /// Puts what is different from `before` into the transaction.
    pub(crate) fn write(
        &self,
        before: &Self,
        scope: &Scope,
        transaction: &mut Transaction,
    ) -> Result<(), Problem> {
        if let Some(vm) = scope.vm {
            differ(transaction, keys::vm(vm), &before.vm, &self.vm)?;
            differ(transaction, keys::own(vm), &before.own, &self.own)?;
            differ(transaction, keys::gone(vm), &before.gone, &self.gone)?;
        }
        if let Some(host) = &scope.host {
            differ(transaction, keys::cordon(host), &before.cordon, &self.cordon)?;
        }
        if let Some(name) = &scope.name {
            differ(transaction, keys::name(name), &before.name, &self.name)?;
        }
        if let Some(id) = scope.attempt {
            differ(transaction, keys::attempt(id), &before.attempt, &self.attempt)?;
            differ(transaction, keys::open(id), &before.open(), &self.open())?;
        }
        if let Some(id) = scope.plan {
            differ(transaction, keys::plan(id), &before.run, &self.run)?;
            differ(transaction, keys::under_way(id), &before.under_way(), &self.under_way())?;
        }
        Ok(())
    }

    /// Stands while the plan is being carried out.
    fn under_way(&self) -> Option<()> {
        self.run.as_ref().filter(|run| run.ended.is_none()).map(|_| ())
    }

    /// The VM of the attempt, while it is not done.
    fn open(&self) -> Option<VmId> {
        let record = &self.attempt.as_ref()?.record;
        (record.phase != AttemptPhase::Done).then_some(record.vm)
    }

    /// The hosts whose intent these records are part of.
    pub(crate) fn hosts(&self) -> BTreeSet<HostId> {
        let parties = self.attempt.iter().flat_map(|a| [&a.record.from, &a.record.to]);
        self.own.iter().map(|own| &own.owner).chain(parties).cloned().collect()
    }

    /// The VM's name, as it is or was.
    pub(crate) fn vm_name(&self) -> Option<VmName> {
        let vm = self.vm.as_ref().or(self.gone.as_ref().map(|gone| &gone.vm));
        vm.map(|vm| vm.spec.name.clone())
    }

    /// The VM, which must be there.
    pub(crate) fn vm_mut(&mut self) -> Result<&mut Vm, Problem> {
        self.vm.as_mut().ok_or_else(unknown)
    }

    /// The VM, its ownership and the attempt, which must be there.
    pub(crate) fn migration(&mut self) -> Result<(&mut Ownership, &mut Attempt), Problem> {
        let own = self.own.as_mut().ok_or_else(unknown)?;
        let attempt = self
            .attempt
            .as_mut()
            .ok_or_else(|| Problem::new(Code::AttemptUnknown, "there is no attempt of that id"))?;
        Ok((own, attempt))
    }
}

fn unknown() -> Problem {
    Problem::new(Code::VmUnknown, "there is no such VM").remedy("see `godwit vm ls`")
}

/// Reads a record.
pub(crate) fn parse<T: DeserializeOwned>(entry: Option<&Entry>) -> Result<Option<T>, Problem> {
    let Some(entry) = entry else { return Ok(None) };
    serde_json::from_slice(&entry.value).map(Some).map_err(|error| {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        tracing::error!(%key, %error, "a record cannot be read");
        Problem::new(Code::Internal, format!("the store's record {key} cannot be read: {error}"))
            .remedy("use the version of godwit that wrote it")
    })
}

/// Writes a record.
pub(crate) fn text(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value)
        .map_err(|e| Problem::new(Code::Internal, format!("a record cannot be written: {e}")))
}

fn differ<T: Serialize + PartialEq>(
    transaction: &mut Transaction,
    key: Vec<u8>,
    before: &Option<T>,
    after: &Option<T>,
) -> Result<(), Problem> {
    match after {
        _ if before == after => {}
        Some(value) => transaction.put(key, text(value)?),
        None => transaction.delete(key),
    }
    Ok(())
}
