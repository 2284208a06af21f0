//! A user changes a VM's spec.

use serde_json::{Map, Value};
use types::{Code, Ownership, Problem, VmSpec};

use super::vm::removable;
use super::{Note, Observed, Vm};

/// What may change while the VM runs or moves: nothing of it stands in QEMU's arguments.
const ANY_TIME: &[&str] = &["labels", "owner", "tier"];
/// What makes the VM the one it is.
const NEVER: &[&str] = &["name", "uuid"];

/// Makes `spec`, which was checked, the VM's.
pub fn set(
    vm: &mut Vm,
    own: Option<&Ownership>,
    seen: Option<&Observed>,
    spec: VmSpec,
    user: &str,
) -> Result<Vec<Note>, Problem> {
    let changed = differences(&vm.spec, &spec)?;
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let among = |list: &'static [&str]| move |field: &&String| list.contains(&field.as_str());
    if let Some(field) = changed.iter().find(among(NEVER)) {
        let detail = format!("{field}: is the VM's identity and never changes");
        return Err(Problem::new(Code::InvalidSpec, detail).remedy("make another VM"));
    }
    let others: Vec<&str> =
        changed.iter().filter(|f| !among(ANY_TIME)(f)).map(String::as_str).collect();
    if !others.is_empty() {
        removable(vm, own, seen).map_err(|why| not_now(vm, &others.join(", "), &why))?;
    }
    vm.spec = spec;
    Ok(vec![Note::by(user, "vm-set").detail(changed.join(", "))])
}

fn not_now(vm: &Vm, fields: &str, why: &Problem) -> Problem {
    let name = &vm.spec.name;
    let detail = format!("{fields}: can change only while {name} is stopped; {}", why.detail);
    Problem::new(why.code, detail).remedy(match &why.remedy {
        Some(remedy) => format!("{remedy}; {} can change at any time", ANY_TIME.join(", ")),
        None => format!("{} can change at any time", ANY_TIME.join(", ")),
    })
}

/// A spec as JSON with a merge patch (RFC 7396) applied.
pub fn merged(mut spec: Value, patch: &Value) -> Value {
    merge(&mut spec, patch);
    spec
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (field, value) in patch {
        if value.is_null() {
            target.remove(field);
        } else {
            merge(target.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Fields of the spec that differ.
fn differences(before: &VmSpec, after: &VmSpec) -> Result<Vec<String>, Problem> {
    let fields = |spec: &VmSpec| match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::new(Code::Internal, "the spec cannot be written")),
    };
    let (before, after) = (fields(before)?, fields(after)?);
    let mut names: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|field| before.get(field) != after.get(field));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::{Epoch, Incarnation, RunState};

    use super::*;

    fn vm(desired: RunState) -> (Vm, Ownership) {
        let spec = json!({ "name": "web01", "memory": "2MiB", "labels": { "a": "1", "b": "2" } });
        let own = Ownership {
            owner: "host-a".parse().unwrap(),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            attempt: None,
            settled: true,
        };
        (Vm { start_generation: 1, ..Vm::new(serde_json::from_value(spec).unwrap(), desired) }, own)
    }

    fn try_set(vm: &mut Vm, own: Option<&Ownership>, patch: &Value) -> Result<Vec<Note>, Problem> {
        let spec = merged(serde_json::to_value(&vm.spec).unwrap(), patch);
        set(vm, own, None, serde_json::from_value(spec).unwrap(), "admin")
    }

    #[test]
    fn words_change_at_any_time_and_the_machine_only_while_it_is_stopped() {
        let (mut vm, mut own) = vm(RunState::Running);
        own.attempt = Some("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        let patch = json!({ "labels": { "a": null, "c": "3" }, "tier": "critical", "owner": "x" });
        let notes = try_set(&mut vm, Some(&own), &patch).unwrap();
        assert_eq!(notes[0].detail.as_deref(), Some("labels, owner, tier"));
        assert_eq!(vm.spec.labels.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(try_set(&mut vm, Some(&own), &json!({ "tier": "critical" })).unwrap(), []);
        let moving = try_set(&mut vm, Some(&own), &json!({ "vcpus": 2 })).unwrap_err();
        assert_eq!(moving.code, Code::MigrationUnderWay);
        own.attempt = None;
        let patch = json!({ "vcpus": 2, "tier": "secondary" });
        let refused = try_set(&mut vm, Some(&own), &patch).unwrap_err();
        assert_eq!(refused.code, Code::VmNotStopped);
        assert!(refused.detail.starts_with("vcpus: can change only while"), "{refused:?}");
        assert_eq!((vm.spec.vcpus, vm.spec.tier.as_str()), (1, "critical"));
        let other = try_set(&mut vm, Some(&own), &json!({ "name": "web02" })).unwrap_err();
        assert_eq!(other.code, Code::InvalidSpec);
    }

    #[test]
    fn everything_changes_while_the_vm_was_never_started() {
        let (mut vm, _) = vm(RunState::Stopped);
        try_set(&mut vm, None, &json!({ "vcpus": 4, "memory": "4MiB", "labels": null })).unwrap();
        assert_eq!((vm.spec.vcpus, vm.spec.memory.0, vm.spec.labels.len()), (4, 4 << 20, 0));
    }
}
