//! What hosts are told: the VMs they own and the attempts that concern them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::body::{AttemptIntent, SyncReply, VmIntent};
use store::Entry;
use types::{AttemptId, AttemptPhase, Code, HostId, Ownership, Problem, VmId};

use crate::core::{Attempt, Vm};
use crate::keys;
use crate::records::{Gone, Records, Scope, parse};
use crate::shell::{Shell, parse_all};

/// The whole intent for a host; `asked` are the attempts it has something of.
pub(crate) async fn intent(
    shell: &Shell,
    host: &HostId,
    asked: &[AttemptId],
) -> Result<SyncReply, Problem> {
    // Before all reads: what changes from now on is told by the next reply.
    let revision = shell.revision();
    let owns = shell.all(keys::OWNS).await?;
    let records = parse_all::<Ownership>(&owns)?;
    let ids = owns.iter().filter_map(|entry| keys::tail::<VmId>(&entry.key));
    let owned = ids.zip(records).filter(|(_, own)| own.owner == *host).map(|(id, _)| id);
    let mut vms: BTreeSet<VmId> = owned.collect();

    let open = shell.all(keys::OPENS).await?;
    let open = open.iter().filter_map(|entry| keys::tail::<AttemptId>(&entry.key));
    let attempts: BTreeSet<AttemptId> = open.chain(asked.iter().copied()).collect();
    let found = shell.read(attempts.iter().copied().map(keys::attempt).collect()).await?;
    let found: Vec<Attempt> = parse_all(&found.into_iter().flatten().collect::<Vec<_>>())?;
    let ours = |a: &Attempt| a.record.from == *host || a.record.to == *host;
    let concerned: BTreeMap<AttemptId, VmId> =
        found.iter().filter(|a| ours(a)).map(|a| (a.record.id, a.record.vm)).collect();
    vms.extend(concerned.values());

    let moment = Moment::read(shell, &vms, concerned.keys().copied()).await?;
    let mut reply = SyncReply {
        revision,
        incarnation: shell.incarnation(),
        vms: Vec::new(),
        attempts: Vec::new(),
        unknown_attempts: Vec::new(),
    };
    for id in &vms {
        reply.vms.extend(moment.vm(*id, host)?);
    }
    for (id, vm) in &concerned {
        let intent = moment.attempt(*id, *vm)?;
        let wanted = asked.contains(id) || intent.record.phase != AttemptPhase::Done;
        reply.attempts.extend(wanted.then_some(intent));
    }
    let unknown = asked.iter().filter(|id| !concerned.contains_key(id)).copied();
    reply.unknown_attempts = unknown.collect::<BTreeSet<_>>().into_iter().collect();
    Ok(reply)
}

/// Records of one moment, by key.
struct Moment(HashMap<Vec<u8>, Entry>);

impl Moment {
    async fn read(
        shell: &Shell,
        vms: &BTreeSet<VmId>,
        attempts: impl Iterator<Item = AttemptId>,
    ) -> Result<Self, Problem> {
        let mut wanted: Vec<Vec<u8>> = attempts.map(keys::attempt).collect();
        wanted.extend(vms.iter().flat_map(|id| Scope::vm(*id).keys()));
        let entries = shell.read(wanted).await?;
        Ok(Self(entries.into_iter().flatten().map(|e| (e.key.clone(), e)).collect()))
    }

    fn records(&self, scope: &Scope) -> Result<Records, Problem> {
        let entries: Vec<Option<Entry>> =
            scope.keys().iter().map(|key| self.0.get(key).cloned()).collect();
        Records::read(scope, &entries)
    }

    /// The VM, if the host owns it.
    fn vm(&self, id: VmId, host: &HostId) -> Result<Option<VmIntent>, Problem> {
        let records = self.records(&Scope::vm(id))?;
        Ok(match (records.vm, records.own) {
            (Some(vm), Some(ownership)) if ownership.owner == *host => Some(VmIntent {
                spec: vm.spec,
                ownership,
                desired: vm.desired,
                start_generation: vm.start_generation,
                resumes: vm.resumes,
                press: vm.press,
            }),
            _ => None,
        })
    }

    fn attempt(&self, id: AttemptId, vm: VmId) -> Result<AttemptIntent, Problem> {
        attempt(self.records(&Scope::vm(vm).attempt(id))?)
    }
}

/// An attempt, as its parties are told.
pub(crate) fn attempt(records: Records) -> Result<AttemptIntent, Problem> {
    let attempt = records.attempt.ok_or_else(|| unknown(None))?;
    // What the VM was, where it has been removed since.
    let (vm, own) = match (records.vm, records.own, records.gone) {
        (Some(vm), Some(own), _) => (vm, own),
        (_, _, Some(Gone { vm, own: Some(own) })) => (vm, own),
        _ => return Err(unknown(Some(attempt.record.id))),
    };
    let Vm { spec, desired, start_generation, resumes, .. } = vm;
    let record = attempt.record;
    Ok(AttemptIntent { record, spec, ownership: own, desired, start_generation, resumes })
}

/// The scope of an attempt, which is of one VM for ever.
pub(crate) async fn scope(shell: &Shell, id: AttemptId) -> Result<Scope, Problem> {
    let entry = shell.read(vec![keys::attempt(id)]).await?.into_iter().next().flatten();
    let attempt: Attempt = parse(entry.as_ref())?.ok_or_else(|| unknown(Some(id)))?;
    Ok(Scope::vm(attempt.record.vm).attempt(id))
}

fn unknown(id: Option<AttemptId>) -> Problem {
    let named = id.map_or_else(String::new, |id| format!(" {id}"));
    Problem::new(Code::AttemptUnknown, format!("there is no attempt{named}"))
}
