//! Names of the store's records.

use types::{AttemptId, HostId, PlanId, VmId, VmName};

/// Format and incarnation.
pub(crate) const META: &str = "/meta";
/// Prefix of the ownership records.
pub(crate) const OWNS: &str = "/own/";
/// Prefix of the VMs.
pub(crate) const VMS: &str = "/vm/";
/// Prefix of the attempts that are not done.
pub(crate) const OPENS: &str = "/open/";
/// Prefix of the history.
pub(crate) const HISTORY: &str = "/history/";

/// Prefix of the hosts that were ever heard.
pub(crate) const HOSTS: &str = "/host/";
/// Prefix of the enrolment tokens.
pub(crate) const TOKENS: &str = "/token/";
/// Prefix of the hosts that are cordoned.
pub(crate) const CORDONS: &str = "/cordon/";
/// Prefix of the attempts.
pub(crate) const ATTEMPTS: &str = "/attempt/";

/// Prefix of the plans that were applied.
pub(crate) const PLANS: &str = "/plan/";
/// Prefix of those that are being carried out.
pub(crate) const UNDER_WAY: &str = "/under-way/";

/// A plan that was applied ([`PlanRun`](types::PlanRun)).
pub(crate) fn plan(id: PlanId) -> Vec<u8> {
    format!("{PLANS}{id}").into_bytes()
}

/// Stands as long as a plan is being carried out.
pub(crate) fn under_way(id: PlanId) -> Vec<u8> {
    format!("{UNDER_WAY}{id}").into_bytes()
}

/// Stands as long as a host is cordoned ([`Cordon`](api::body::Cordon)).
pub(crate) fn cordon(host: &HostId) -> Vec<u8> {
    format!("{CORDONS}{host}").into_bytes()
}

/// A VM ([`Vm`](crate::core::Vm)).
pub(crate) fn vm(id: VmId) -> Vec<u8> {
    format!("{VMS}{id}").into_bytes()
}

/// A VM's name; its value is the VM's id.
pub(crate) fn name(name: &VmName) -> Vec<u8> {
    format!("/name/{name}").into_bytes()
}

/// Who runs a VM ([`Ownership`](types::Ownership)).
pub(crate) fn own(id: VmId) -> Vec<u8> {
    format!("{OWNS}{id}").into_bytes()
}

/// An attempt ([`Attempt`](crate::core::Attempt)); kept for ever.
pub(crate) fn attempt(id: AttemptId) -> Vec<u8> {
    format!("{ATTEMPTS}{id}").into_bytes()
}

/// Stands as long as an attempt is not done; its value is the VM's id.
pub(crate) fn open(id: AttemptId) -> Vec<u8> {
    format!("{OPENS}{id}").into_bytes()
}

/// What a removed VM was, for hosts that still ask about its attempts
/// ([`Gone`](crate::records::Gone)).
pub(crate) fn gone(id: VmId) -> Vec<u8> {
    format!("/gone/{id}").into_bytes()
}

/// An event of the history; the keys are in the order of the events.
pub(crate) fn history(seq: u64) -> Vec<u8> {
    format!("{HISTORY}{seq:020}").into_bytes()
}

/// A host that was heard; its value is when it was first.
pub(crate) fn host(id: &types::HostId) -> Vec<u8> {
    format!("{HOSTS}{id}").into_bytes()
}

/// An enrolment token ([`Token`](crate::core::Token)), by its digest.
pub(crate) fn token(digest: &str) -> Vec<u8> {
    format!("{TOKENS}{digest}").into_bytes()
}

/// What stands after the last '/' of a key.
pub(crate) fn tail<T: std::str::FromStr>(key: &[u8]) -> Option<T> {
    std::str::from_utf8(key).ok()?.rsplit_once('/')?.1.parse().ok()
}
