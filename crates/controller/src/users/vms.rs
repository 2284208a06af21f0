//! VMs: made, shown, started, stopped, paused, resumed, removed.

use api::body::{Button, Nothing, RebootRequest, SpecPatch, StartRequest, VmView};
use serde_json::Value;
use types::{Code, Epoch, HostId, MacAddr, Ownership, Problem, RunState, VmId, VmName, VmSpec};
use uuid::Uuid;

use super::find;
use crate::call::Call;
use crate::core::{self, Note, Observed, Vm};
use crate::fleet::Fleet;
use crate::records::{Gone, Records, Scope};
use crate::routes::Plain;
use crate::shell::Shell;

pub(super) async fn list(call: Plain<Vec<VmView>>) -> Result<Vec<VmView>, Problem> {
    let shell = call.shell;
    let fleet = Fleet::read(&shell).await?;
    let mut views = Vec::new();
    for (id, vm, own) in fleet.vms {
        let records = Records { vm: Some(vm), own, ..Records::default() };
        views.push(view(&shell, id, records)?);
    }
    views.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(views)
}

pub(super) async fn show(call: VmCall) -> Result<VmView, Problem> {
    let (id, records) = find(&call.shell, &call.at).await?;
    view(&call.shell, id, records)
}

pub(super) async fn create(call: Call<(), VmSpec, VmView>) -> Result<VmView, Problem> {
    let (user, shell) = (call.user(), call.shell.clone());
    let mut spec = call.body.clone();
    let wrong = |detail: String| Problem::new(Code::InvalidSpec, detail);
    if Uuid::parse_str(spec.name.as_str()).is_ok() {
        return Err(wrong("name: must not look like a UUID".to_owned()));
    }
    let id = *spec.uuid.get_or_insert_with(|| VmId(Uuid::new_v4()));
    for nic in &mut spec.nics {
        if nic.mac.is_none() {
            nic.mac = Some(new_mac()?);
        }
    }
    spec.check().map_err(|e| wrong(e.to_string()))?;
    let scope = Scope::vm(id).name(spec.name.clone());
    let decide = move |records: &mut Records| {
        let name = &spec.name;
        if records.name.is_some() || records.vm.is_some() {
            let what = if records.name.is_some() { name.to_string() } else { id.to_string() };
            return Err(Problem::new(Code::VmExists, format!("there is a VM {what} already"))
                .remedy("choose another name and UUID, or remove that one first"));
        }
        records.name = Some(id);
        let (spec, desired) = (spec.clone(), RunState::Stopped);
        // A UUID that was used before goes on counting: no host mixes the two up.
        let start_generation = records.gone.as_ref().map_or(0, |gone| gone.vm.start_generation);
        records.vm = Some(Vm { start_generation, ..Vm::new(spec, desired) });
        records.notes = vec![Note::by(&user, "vm-created").detail(id.to_string())];
        view(&shell, id, records.clone())
    };
    call.change(scope, decide).await
}

pub(super) async fn remove(call: Call<VmName, Nothing, Nothing>) -> Result<Nothing, Problem> {
    let (user, shell) = (call.user(), call.shell.clone());
    let (id, found) = find(&shell, &call.at).await?;
    let name = found.vm_name().ok_or_else(|| unknown(&call.at))?;
    shell.hear_out(id, may_be_removed).await?;
    let inner = shell.clone();
    let decide = move |records: &mut Records| {
        let seen = inner.observed(id, records);
        let own = records.own.clone();
        let vm = records.vm_mut()?.clone();
        core::removable(&vm, own.as_ref(), seen.as_ref())?;
        records.gone = Some(Gone { vm, own });
        (records.vm, records.own, records.name) = (None, None, None);
        records.notes = vec![Note::by(&user, "vm-removed")];
        Ok(Nothing {})
    };
    call.change(Scope::vm(id).name(name), decide).await
}

/// Whether no newer word of the owner is needed, because it may be removed or is
/// to run.
fn may_be_removed(records: &Records, seen: &Observed) -> bool {
    let Some(vm) = &records.vm else { return true };
    vm.desired != RunState::Stopped || core::removable(vm, records.own.as_ref(), Some(seen)).is_ok()
}

pub(super) async fn start(call: Call<VmName, StartRequest, VmView>) -> Result<VmView, Problem> {
    let (user, shell) = (call.user(), &call.shell);
    let (id, mut records) = find(shell, &call.at).await?;
    let on = match (&call.body.on, &records.own) {
        (Some(on), _) => Some(on.clone()),
        (None, own) => own.as_ref().map(|own| own.owner.clone()),
    };
    let on = room(shell, id, records.vm_mut()?, on).await?;
    if records.own.as_ref().is_some_and(|own| own.owner != on) {
        shell.hear_out(id, |_, seen| seen.owning).await?;
    }
    let incarnation = shell.incarnation();
    let decide = move |shell: &Shell, records: &mut Records| {
        let seen = shell.observed(id, records);
        let mut own = records.own.clone();
        let past = records.gone.as_ref().and_then(|gone| gone.own.as_ref());
        let first = (incarnation, past.map_or(Epoch(0), |own| own.epoch));
        let vm = records.vm_mut()?;
        let notes = core::start(vm, &mut own, seen.as_ref(), &on, first, &user)?;
        records.own = own;
        Ok(notes)
    };
    alter(&call, id, decide).await
}

/// The host to start on, which must be able to take the VM.
async fn room(shell: &Shell, id: VmId, vm: &Vm, on: Option<HostId>) -> Result<HostId, Problem> {
    let demand = planner::Demand::from(&vm.spec);
    let mut fleet = Fleet::read(shell).await?;
    // What it holds where it is does not stand against itself.
    fleet.vms.retain(|(other, ..)| *other != id);
    let hosts = fleet.hosts(shell);
    let Some(on) = on else { return Ok(planner::place(&demand, &hosts, None)?.id.clone()) };
    if vm.desired != RunState::Stopped {
        // It runs, or is about to: nothing is to be placed.
        return Ok(on);
    }
    let host = hosts.iter().find(|host| host.id == on).ok_or_else(|| {
        Problem::new(Code::HostUnknown, format!("there is no host {on}"))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard")
    })?;
    demand.fits(host)?;
    Ok(on)
}

pub(super) async fn stop(call: VmCall) -> Result<VmView, Problem> {
    turn(call, |vm, own, _, user| core::stop(vm, own, user)).await
}

pub(super) async fn pause(call: VmCall) -> Result<VmView, Problem> {
    turn(call, core::pause).await
}

pub(super) async fn resume(call: VmCall) -> Result<VmView, Problem> {
    turn(call, core::resume).await
}

pub(super) async fn shutdown(call: VmCall) -> Result<VmView, Problem> {
    press(call, Button::Power).await
}

pub(super) async fn reboot(call: Call<VmName, RebootRequest, VmView>) -> Result<VmView, Problem> {
    let button = if call.body.hard { Button::Reset } else { Button::Reboot };
    press(call, button).await
}

async fn press<B>(call: Call<VmName, B, VmView>, button: Button) -> Result<VmView, Problem> {
    let user = call.user();
    let (id, _) = find(&call.shell, &call.at).await?;
    let decide = move |shell: &Shell, records: &mut Records| {
        let seen = shell.observed(id, records);
        let own = records.own.clone();
        core::press(records.vm_mut()?, own.as_ref(), seen.as_ref(), button, &user)
    };
    alter(&call, id, decide).await
}

pub(super) async fn set(call: Call<VmName, SpecPatch, VmView>) -> Result<VmView, Problem> {
    let user = call.user();
    let (id, _) = find(&call.shell, &call.at).await?;
    call.shell.hear_out(id, may_be_removed).await?;
    let patch = Value::Object(call.body.0.clone().into_iter().collect());
    let decide = move |shell: &Shell, records: &mut Records| {
        let seen = shell.observed(id, records);
        let own = records.own.clone();
        let vm = records.vm_mut()?;
        core::set(vm, own.as_ref(), seen.as_ref(), patched(&vm.spec, &patch)?, &user)
    };
    alter(&call, id, decide).await
}

/// The spec with a patch applied, checked, with addresses for new NICs.
fn patched(spec: &VmSpec, patch: &Value) -> Result<VmSpec, Problem> {
    let internal = |e: serde_json::Error| Problem::new(Code::Internal, e.to_string());
    let whole = core::merged(serde_json::to_value(spec).map_err(internal)?, patch);
    let wrong = |detail: String| Problem::new(Code::InvalidSpec, detail);
    let mut spec: VmSpec = serde_path_to_error::deserialize(whole).map_err(|e| {
        let text: String = e.to_string().chars().take(600).collect();
        wrong(text)
    })?;
    for nic in &mut spec.nics {
        if nic.mac.is_none() {
            nic.mac = Some(new_mac()?);
        }
    }
    spec.check().map_err(|e| wrong(e.to_string()))?;
    Ok(spec)
}

type VmCall = Call<VmName, Nothing, VmView>;

/// A change of what is desired.
type Turn = fn(&mut Vm, Option<&Ownership>, Option<&Observed>, &str) -> Result<Vec<Note>, Problem>;

async fn turn(call: VmCall, turn: Turn) -> Result<VmView, Problem> {
    let user = call.user();
    let (id, _) = find(&call.shell, &call.at).await?;
    let decide = move |shell: &Shell, records: &mut Records| {
        let seen = shell.observed(id, records);
        let own = records.own.clone();
        turn(records.vm_mut()?, own.as_ref(), seen.as_ref(), &user)
    };
    alter(&call, id, decide).await
}

async fn alter<B>(
    call: &Call<VmName, B, VmView>,
    id: VmId,
    decide: impl Fn(&Shell, &mut Records) -> Result<Vec<Note>, Problem> + Send + Sync + 'static,
) -> Result<VmView, Problem> {
    let shell = call.shell.clone();
    let decide = move |records: &mut Records| {
        records.notes = decide(&shell, records)?;
        view(&shell, id, records.clone())
    };
    call.change(Scope::vm(id), decide).await
}

/// The VM, as shown.
fn view(shell: &Shell, id: VmId, records: Records) -> Result<VmView, Problem> {
    let seen = shell.observed(id, &records).map(|seen| seen.facts);
    let vm = records.vm.ok_or_else(|| unknown(&id))?;
    Ok(VmView {
        spec: vm.spec,
        ownership: records.own,
        desired: vm.desired,
        start_generation: vm.start_generation,
        state: seen.as_ref().map(|facts| facts.state),
        halted: seen.as_ref().and_then(|facts| facts.halted.clone()),
        error: seen.and_then(|facts| facts.error),
    })
}

/// The problem of a VM that is not there.
pub(super) fn unknown(wanted: &impl std::fmt::Display) -> Problem {
    Problem::new(Code::VmUnknown, format!("there is no VM {wanted}")).remedy("see `godwit vm ls`")
}

/// An address of QEMU's range with three random octets.
fn new_mac() -> Result<MacAddr, Problem> {
    let [a, b, c, ..] = Uuid::new_v4().into_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
        .parse()
        .map_err(|e| Problem::new(Code::Internal, format!("no address was made: {e}")))
}
