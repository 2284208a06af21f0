//! After a restore: compares what the store says with what hosts say that they have.

use std::collections::BTreeSet;

use api::body::{Doubt, VmFacts};
use types::{HostId, Ownership, Problem, RunState, VmId};

use crate::core;
use crate::keys;
use crate::records::{Records, Scope};
use crate::shell::{Shell, parse_all};

/// Takes what a host says into the records that are not confirmed yet.
pub(crate) async fn look(shell: &Shell, host: &HostId, vms: &[VmFacts]) -> Result<(), Problem> {
    for facts in vms.iter().filter(|facts| facts.state != RunState::Stopped) {
        let scope = scope(shell, facts).await?;
        let (host, facts, now) = (host.clone(), facts.clone(), shell.incarnation());
        let decide = move |records: &mut Records| {
            take(records, &host, &facts, now);
            Ok(())
        };
        shell.change(scope, decide).await?;
    }
    if awaited(shell).await?.is_empty() {
        for (vm, own) in unconfirmed(shell).await? {
            settle_missing(shell, vm, &own).await?;
        }
    }
    Ok(())
}

/// The records that a found VM changes.
async fn scope(shell: &Shell, facts: &VmFacts) -> Result<Scope, Problem> {
    let records = shell.records(&Scope::vm(facts.vm)).await?;
    let mut scope = Scope::vm(facts.vm);
    if let Some(attempt) = records.own.as_ref().and_then(|own| own.attempt) {
        scope = scope.attempt(attempt);
    }
    if let (None, Some(spec)) = (&records.vm, &facts.spec) {
        scope = scope.name(spec.name.clone());
    }
    Ok(scope)
}

fn take(records: &mut Records, host: &HostId, facts: &VmFacts, now: types::Incarnation) {
    let (vm, own) = (records.vm.as_ref(), records.own.as_ref());
    let Some((vm, own, note)) = core::found(vm, own, host, facts, now) else { return };
    if records.vm.is_none() {
        if records.name.is_some() {
            // Another VM has its name; a person has to choose.
            return;
        }
        records.name = Some(facts.vm);
    }
    if let Some(attempt) = &mut records.attempt {
        core::close(attempt, &own.owner, None);
    }
    (records.vm, records.own) = (Some(vm), Some(own));
    records.notes.push(note);
}

/// No host has the VM.
async fn settle_missing(shell: &Shell, vm: VmId, own: &Ownership) -> Result<(), Problem> {
    if shell.seen().anywhere(vm) {
        return Ok(());
    }
    let mut scope = Scope::vm(vm);
    if let Some(attempt) = own.attempt {
        scope = scope.attempt(attempt);
    }
    let now = shell.incarnation();
    let decide = move |records: &mut Records| {
        if core::confirmed(records.own.as_ref(), now) {
            return Ok(());
        }
        if let (Some(vm), Some(own)) = (&mut records.vm, &mut records.own) {
            let note = core::missing(vm, own, now);
            if let Some(attempt) = &mut records.attempt {
                core::close(attempt, &own.owner, None);
            }
            records.notes.push(note);
        }
        Ok(())
    };
    shell.change(scope, decide).await
}

/// Ownership records that are of the store from before.
async fn unconfirmed(shell: &Shell) -> Result<Vec<(VmId, Ownership)>, Problem> {
    let entries = shell.all(keys::OWNS).await?;
    let ids = entries.iter().filter_map(|entry| keys::tail::<VmId>(&entry.key));
    let mut all: Vec<(VmId, Ownership)> = ids.zip(parse_all::<Ownership>(&entries)?).collect();
    all.retain(|(_, own)| !core::confirmed(Some(own), shell.incarnation()));
    Ok(all)
}

/// Hosts of which the restored store knows and that have not been heard since; none
/// where it was not restored.
pub(crate) async fn awaited(shell: &Shell) -> Result<Vec<HostId>, Problem> {
    if shell.restored().is_none() {
        return Ok(Vec::new());
    }
    let known = shell.all(keys::HOSTS).await?;
    let mut hosts: BTreeSet<HostId> = known.iter().filter_map(|e| keys::tail(&e.key)).collect();
    hosts.extend(unconfirmed(shell).await?.into_iter().map(|(_, own)| own.owner));
    let seen = shell.seen();
    Ok(hosts.into_iter().filter(|host| !seen.hosts.contains_key(host)).collect())
}

/// VMs in doubt, and why.
pub(crate) async fn doubts(shell: &Shell) -> Result<Vec<Doubt>, Problem> {
    if shell.restored().is_none() {
        return Ok(Vec::new());
    }
    let mut doubts = Vec::new();
    for (id, own) in unconfirmed(shell).await? {
        let name = shell.records(&Scope::vm(id)).await?.vm_name();
        let vm = name.map_or_else(|| id.to_string(), |name| name.to_string());
        let why = if shell.seen().anywhere(id) {
            "a host has it, but was told of another owner or is in the middle of a migration"
        } else {
            "no host that was heard has it"
        };
        let why = format!("{why}; the backup says that {} owns it", own.owner);
        doubts.push(Doubt { vm, why });
    }
    Ok(doubts)
}
