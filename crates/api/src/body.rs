//! Bodies of the HTTP contract. JSON: bytes, seconds, RFC 3339; no human units.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{
    AttemptId, AttemptPhase, AttemptRecord, Bytes, Epoch, HostId, HostOffer, Incarnation,
    MigrationReport, Mode, Ownership, PageCounts, PoolName, Problem, Progress, RunState, Side,
    VmId, VmName, VmSpec,
};

/// What an agent says of its host; replaces what it said before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Its name, equal to the one in its certificate.
    pub host: HostId,
    /// Address under which other hosts' carriers reach it.
    pub address: String,
    /// Processors.
    pub cpus: u32,
    /// Memory that VMs may use: the size of the agent's memory file system.
    pub memory: Bytes,
    /// Memory of it that VMs and incoming VMs hold.
    pub memory_used: Bytes,
    /// Memory that VMs may use in huge pages of 2 MiB.
    #[serde(default)]
    pub hugepages: Bytes,
    /// Of this, what VMs and incoming VMs hold.
    #[serde(default)]
    pub hugepages_used: Bytes,
    /// BLAKE3 of the UEFI firmware's code; absent: the host has no UEFI firmware.
    #[serde(default)]
    pub uefi: Option<String>,
    /// QEMU's version, as it says.
    pub qemu: String,
    /// How guests are executed: `kvm` or `tcg`.
    pub accel: String,
    /// Bridges a NIC may be plugged into.
    pub bridges: Vec<PoolName>,
    /// Storage pools.
    pub pools: Vec<PoolName>,
    /// Agent's version.
    pub version: String,
    /// What is compared in detail before a VM comes or goes; absent from an agent of
    /// an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<HostOffer>,
}

/// What an agent sees of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmFacts {
    /// The VM.
    pub vm: VmId,
    /// What its QEMU does.
    pub state: RunState,
    /// The newest start generation acted on.
    pub start_generation: u64,
    /// Versioned machine type in use, where a QEMU runs.
    pub machine: Option<String>,
    /// Why a VM that should run rests, in QEMU's words: `io-error`, `guest-panicked`.
    #[serde(default)]
    pub halted: Option<String>,
    /// How its last QEMU ended, if nobody asked for that.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// Why the last thing asked for could not be done.
    pub error: Option<String>,
    /// Why its QEMU says that it cannot migrate; empty: it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
}

/// How a QEMU ended that nobody ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Its guest powered off.
    PoweredOff,
    /// For reasons of its own, which its log may tell.
    Died,
}

/// `POST /v1/agent/sync`: facts in, intent out. Answers at once when something
/// newer than `since` concerns the host, else after at most `wait_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncRequest {
    /// The host.
    pub host: HostFacts,
    /// Its VMs.
    pub vms: Vec<VmFacts>,
    /// Attempts of which something is left on the host.
    pub attempts: Vec<AttemptId>,
    /// Revision of the last reply; 0 at first.
    pub since: u64,
    /// How long to wait for news, in milliseconds, at most 30,000.
    pub wait_ms: u64,
}

/// The whole intent for a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncReply {
    /// Revision to send as `since`.
    pub revision: u64,
    /// Incarnation of the store.
    pub incarnation: Incarnation,
    /// VMs the host owns.
    pub vms: Vec<VmIntent>,
    /// Attempts that are open on the host or were asked for in the request.
    pub attempts: Vec<AttemptIntent>,
    /// Attempts asked for that the store does not know: hands off and alarm.
    pub unknown_attempts: Vec<AttemptId>,
}

/// What should be of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmIntent {
    /// Its spec, with UUID and MACs.
    pub spec: VmSpec,
    /// Who may run it.
    pub ownership: Ownership,
    /// What its owner should see to.
    pub desired: RunState,
    /// Rises with every request to start; a QEMU is started once for each.
    pub start_generation: u64,
    /// Rises with every request to go on after an error; it is done once for each.
    #[serde(default)]
    pub resumes: u64,
    /// The button that was pressed last; each press is acted on once at most.
    #[serde(default)]
    pub press: Option<Press>,
}

/// A button of a VM that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Press {
    /// Which.
    pub button: Button,
    /// Rises with every press.
    pub number: u64,
    /// It is meant for the VM as it was started then, and
    pub start_generation: u64,
    /// as its owner held it then; later it is void.
    pub epoch: Epoch,
}

/// Buttons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Button {
    /// The guest is asked to power off.
    Power,
    /// The guest is asked to power off, and is started again.
    Reboot,
    /// The machine begins anew at once.
    Reset,
}

/// An attempt, with what its parties need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptIntent {
    /// The record.
    pub record: AttemptRecord,
    /// The VM's spec.
    pub spec: VmSpec,
    /// Who may run it now.
    pub ownership: Ownership,
    /// What should be of the VM.
    pub desired: RunState,
    /// The VM's start generation, which moves with it.
    pub start_generation: u64,
    /// The requests to go on that were done, which move with it.
    #[serde(default)]
    pub resumes: u64,
}

/// `POST /v1/agent/vms/{uuid}/{claim|reassert|give-back|settle}`: compare-and-swap
/// of the ownership. The caller is known by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnershipRequest {
    /// The attempt on whose behalf.
    pub attempt: AttemptId,
    /// Epoch the caller compares with.
    pub epoch: Epoch,
    /// Incarnation the caller compares with.
    pub incarnation: Incarnation,
}

/// `POST /v1/agent/attempts/{id}/event`: a durable fact of one party.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptEvent {
    /// Who says it.
    pub side: Side,
    /// Number of the event on that side, from 1; a repeated one is ignored.
    pub seq: u64,
    /// What happened, one word of kebab-case.
    pub event: String,
    /// More about it.
    pub detail: Option<String>,
    /// What it adds to the record.
    pub patch: AttemptPatch,
}

/// Fields of an attempt that a party sets; absent ones stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AttemptPatch {
    /// Later phase; an earlier one is ignored.
    pub phase: Option<AttemptPhase>,
    /// Where the destination's carrier listens.
    pub destination: Option<String>,
    /// Why the attempt must end without a move. Ignored after the claim.
    pub abort: Option<String>,
    /// Mode.
    pub mode: Option<Mode>,
    /// Blackout.
    pub blackout_seconds: Option<f64>,
    /// Round trip between carriers.
    pub round_trip_seconds: Option<f64>,
    /// Rounds.
    pub rounds: Option<u64>,
    /// Bytes sent.
    pub sent_bytes: Option<u64>,
    /// Pages.
    pub pages: Option<PageCounts>,
    /// State equal at the switchover.
    pub state_equal: Option<bool>,
    /// The source's part is over: `kept` (the VM stayed) or `released`.
    pub source_ended: Option<bool>,
    /// The guest powered off: whoever has the VM ends it.
    pub powered_off: Option<bool>,
}

/// `POST /v1/vms/{name}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StartRequest {
    /// Where; chosen by room when absent.
    pub on: Option<HostId>,
}

/// `POST /v1/vms/{name}/reboot`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RebootRequest {
    /// At once, as by the reset button, without asking the guest.
    pub hard: bool,
}

/// `POST /v1/vms/{name}/set`: a JSON merge patch (RFC 7396) of the spec. `null` brings
/// a field's default back; a list is replaced as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SpecPatch(pub BTreeMap<String, serde_json::Value>);

/// `POST /v1/vms/{name}/migrate`. Answers 202 with the attempt's [`AttemptView`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MigrateRequest {
    /// Where to; chosen by room when absent.
    pub to: Option<HostId>,
    /// Compare RAM digest and registers before the claim (costs blackout).
    pub verify: bool,
    /// Longest blackout allowed, in milliseconds; 300 when absent.
    pub blackout_budget_ms: Option<u64>,
}

/// A host, as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// What its agent said last.
    #[serde(flatten)]
    pub facts: HostFacts,
    /// The agent has been heard within the last 10 s.
    pub up: bool,
    /// Seconds since it was heard.
    pub heard_seconds: Option<f64>,
    /// VMs it owns.
    pub vms: Vec<VmName>,
    /// Nothing new goes there; absent: it takes VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
}

/// `POST /v1/hosts/{host}/cordon`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CordonRequest {
    /// Why, for others to read; at most 200 characters.
    pub reason: Option<String>,
}

/// That nothing new goes to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cordon {
    /// Who asked for it.
    pub by: String,
    /// When, RFC 3339.
    pub time: String,
    /// Why.
    pub reason: Option<String>,
}

/// What a migration would meet, found out without touching anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreflightView {
    /// The VM.
    pub vm: VmName,
    /// The host it is on.
    pub from: Option<HostId>,
    /// The host it would go to; absent where it would be refused.
    pub to: Option<HostId>,
    /// Why it would be refused.
    pub refusal: Option<Problem>,
    /// What stands against moving the VM at all.
    pub refusals: Vec<Problem>,
    /// Every other host, by name.
    pub hosts: Vec<Candidate>,
    /// What can be said about the migration.
    pub forecast: Forecast,
}

/// A host that a VM might go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The host.
    pub host: HostId,
    /// All that stands against it; nothing: the VM may go there.
    pub refusals: Vec<Problem>,
}

/// What is known beforehand of a migration. Nothing is guessed: times are those of
/// the VM's last migration that completed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// Size of the guest's memory.
    pub memory_bytes: u64,
    /// The migration that the rest is taken from; absent: there is none.
    pub attempt: Option<AttemptId>,
    /// What it took from the request to the last clean-up.
    pub total_seconds: Option<f64>,
    /// Its blackout.
    pub blackout_seconds: Option<f64>,
    /// Bytes it sent.
    pub sent_bytes: Option<u64>,
    /// How its memory travelled.
    pub mode: Option<Mode>,
}

/// A VM, as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmView {
    /// Its spec.
    pub spec: VmSpec,
    /// Who may run it; absent before the first start.
    pub ownership: Option<Ownership>,
    /// What was asked for.
    pub desired: RunState,
    /// Rises with every start.
    #[serde(default)]
    pub start_generation: u64,
    /// What its owner saw last.
    pub state: Option<RunState>,
    /// Why it rests although it should run: `io-error`, `guest-panicked`, …
    #[serde(default)]
    pub halted: Option<String>,
    /// Why the last thing asked for could not be done.
    pub error: Option<String>,
}

/// An attempt, as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// How far it is.
    pub phase: AttemptPhase,
    /// Volatile progress, while it copies.
    pub progress: Option<Progress>,
    /// The report so far.
    pub report: MigrationReport,
}

/// One line of `godwit audit history`, kept durably and in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEvent {
    /// Position in the history, from 1, without gaps.
    pub seq: u64,
    /// When the controller recorded it, RFC 3339.
    pub time: String,
    /// The VM, if it is about one.
    pub vm: Option<VmName>,
    /// The attempt, if it is about one.
    pub attempt: Option<AttemptId>,
    /// Who did or said it: `admin`, `controller` or a host's name.
    pub actor: String,
    /// What happened, one word of kebab-case.
    pub event: String,
    /// More about it.
    pub detail: Option<String>,
}

/// What `GET /v1/history` is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only events of this VM.
    pub vm: Option<VmName>,
    /// Only events with a greater `seq`.
    pub after: Option<u64>,
    /// At most so many, the oldest first; the controller bounds it too.
    pub limit: Option<u32>,
}

/// What `GET /v1/events` is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsQuery {
    /// Only events with a greater `seq`; absent: only what happens from now on.
    pub after: Option<u64>,
    /// Only events of this VM.
    pub vm: Option<VmName>,
}

/// `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A problem as it travels: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDetails {
    /// `urn:godwit:problem:` and the code.
    pub r#type: String,
    /// What the code means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable code, detail and remedy.
    #[serde(flatten)]
    pub problem: Problem,
}

impl From<Problem> for ProblemDetails {
    fn from(problem: Problem) -> Self {
        let code = problem.code;
        Self {
            r#type: format!("urn:godwit:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            problem,
        }
    }
}
