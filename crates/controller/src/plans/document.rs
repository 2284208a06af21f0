//! A plan with the state that it was made from.

use std::collections::BTreeMap;

use serde::Serialize;
use types::{Code, Fleet, FleetPlan, PlanDocument, PlanGoal, Problem};

/// The document of a plan.
pub(crate) fn document(
    goal: PlanGoal,
    fleet: &Fleet,
    plan: FleetPlan,
) -> Result<PlanDocument, Problem> {
    let mut document = PlanDocument {
        format: PlanDocument::FORMAT,
        goal,
        digest: String::new(),
        plan,
        state: state(fleet)?,
    };
    document.digest = digest(&document)?;
    Ok(document)
}

/// Each part of the fleet by its name, as text.
pub(crate) fn state(fleet: &Fleet) -> Result<BTreeMap<String, String>, Problem> {
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    for host in &fleet.hosts {
        state.insert(format!("host/{}", host.name), text(host)?);
    }
    for vm in &fleet.vms {
        state.insert(format!("vm/{}", vm.name), text(vm)?);
    }
    state.insert("policy".to_owned(), text(&fleet.policy)?);
    Ok(state)
}

/// BLAKE3 of everything in a document but its digest.
pub(crate) fn digest(document: &PlanDocument) -> Result<String, Problem> {
    let bare = PlanDocument { digest: String::new(), ..document.clone() };
    Ok(blake3::hash(text(&bare)?.as_bytes()).to_hex().to_string())
}

fn text(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value)
        .map_err(|e| Problem::new(Code::Internal, format!("a plan cannot be written: {e}")))
}
