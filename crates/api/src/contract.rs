//! Every operation of the HTTP contract.
//!
//! A new one is written here, given to the controller's routes, and has a method in
//! the client; the OpenAPI document follows by itself.

use types::{AttemptId, HostId, Ownership, Progress, VmId, VmName, VmSpec};

use crate::body::{
    AttemptEvent, AttemptIntent, AttemptView, CordonRequest, EventsQuery, HistoryEvent,
    HistoryQuery, HostView, MigrateRequest, Nothing, OwnershipRequest, PreflightView,
    RebootRequest, SpecPatch, StartRequest, SyncReply, SyncRequest, VmView,
};
use crate::operation::{Operation, Verb};
use crate::path;

/// The OpenAPI document.
pub const OPENAPI: Operation<(), Nothing, serde_json::Value> =
    Operation::read("getOpenapi", path::OPENAPI, "This document.").for_anyone();

/// Every host.
pub const HOSTS: Operation<(), Nothing, Vec<HostView>> =
    Operation::read("listHosts", path::HOSTS, "Every host that has been heard.");
/// Keeps new VMs off a host.
pub const HOST_CORDON: Operation<HostId, CordonRequest, HostView> = Operation::change(
    "cordonHost",
    Verb::Post,
    path::HOST_CORDON,
    "Lets nothing new go to a host; its VMs stay.",
);
/// Lets VMs go to a host again.
pub const HOST_UNCORDON: Operation<HostId, Nothing, HostView> = Operation::change(
    "uncordonHost",
    Verb::Post,
    path::HOST_UNCORDON,
    "Lets VMs go to a host again.",
);

/// Every VM.
pub const VMS: Operation<(), Nothing, Vec<VmView>> =
    Operation::read("listVms", path::VMS, "Every VM.");
/// Makes a VM.
pub const VM_CREATE: Operation<(), VmSpec, VmView> =
    Operation::change("createVm", Verb::Post, path::VMS, "Makes a VM, which is stopped at first.");
/// One VM.
pub const VM: Operation<VmName, Nothing, VmView> =
    Operation::read("getVm", path::VM, "One VM, by name or UUID.");
/// Forgets a VM.
pub const VM_DELETE: Operation<VmName, Nothing, Nothing> =
    Operation::change("deleteVm", Verb::Delete, path::VM, "Forgets a stopped VM; its disks stay.");
/// Starts a VM.
pub const VM_START: Operation<VmName, StartRequest, VmView> =
    Operation::change("startVm", Verb::Post, path::VM_START, "Asks for a VM to be started.");
/// Stops a VM.
pub const VM_STOP: Operation<VmName, Nothing, VmView> =
    Operation::change("stopVm", Verb::Post, path::VM_STOP, "Asks for a VM to be stopped at once.");
/// Presses a VM's power button.
pub const VM_SHUTDOWN: Operation<VmName, Nothing, VmView> = Operation::change(
    "shutdownVm",
    Verb::Post,
    path::VM_SHUTDOWN,
    "Asks a VM's guest to power off.",
);
/// Reboots a VM.
pub const VM_REBOOT: Operation<VmName, RebootRequest, VmView> = Operation::change(
    "rebootVm",
    Verb::Post,
    path::VM_REBOOT,
    "Asks a VM's guest to power off, and starts it again; or resets it at once.",
);
/// Changes a VM's spec.
pub const VM_SET: Operation<VmName, SpecPatch, VmView> = Operation::change(
    "setVm",
    Verb::Post,
    path::VM_SET,
    "Changes a VM's spec: labels, owner and tier at any time, the rest while it is stopped.",
);
/// Halts a VM.
pub const VM_PAUSE: Operation<VmName, Nothing, VmView> = Operation::change(
    "pauseVm",
    Verb::Post,
    path::VM_PAUSE,
    "Asks for a VM's processors to be stopped.",
);
/// Lets a VM go on.
pub const VM_RESUME: Operation<VmName, Nothing, VmView> = Operation::change(
    "resumeVm",
    Verb::Post,
    path::VM_RESUME,
    "Asks for a paused VM's processors to go on.",
);
/// Begins a migration.
pub const VM_MIGRATE: Operation<VmName, MigrateRequest, AttemptView> = Operation::change(
    "migrateVm",
    Verb::Post,
    path::VM_MIGRATE,
    "Begins a migration; its attempt tells how it goes.",
)
.status(202);
/// What a migration would meet.
pub const VM_PREFLIGHT: Operation<VmName, MigrateRequest, PreflightView> = Operation::change(
    "preflightMigration",
    Verb::Post,
    path::VM_PREFLIGHT,
    "Tells what a migration would meet: where to, how long, and every refusal of every host.",
)
.only_asks();
/// Gives a migration up.
pub const VM_CANCEL: Operation<VmName, Nothing, AttemptView> = Operation::change(
    "cancelMigration",
    Verb::Post,
    path::VM_CANCEL,
    "Asks for the migration of a VM to be given up.",
);
/// One attempt.
pub const ATTEMPT: Operation<AttemptId, Nothing, AttemptView> =
    Operation::read("getAttempt", path::ATTEMPT, "One migration attempt, under way or over.");
/// The history.
pub const HISTORY: Operation<(), Nothing, Vec<HistoryEvent>, HistoryQuery> =
    Operation::read("listHistory", path::HISTORY, "A part of the history, the oldest first.");
/// The history as it grows.
pub const EVENTS: Operation<(), Nothing, HistoryEvent, EventsQuery> = Operation::stream(
    "followEvents",
    path::EVENTS,
    "The history as it grows, as server-sent events; resumes after `Last-Event-ID`.",
);

/// Facts in, intent out.
pub const AGENT_SYNC: Operation<(), SyncRequest, SyncReply> = Operation::agent(
    "agentSync",
    Verb::Post,
    path::AGENT_SYNC,
    "A host's facts go in, the whole intent for it comes out.",
);
/// A fresh read of an attempt.
pub const AGENT_ATTEMPT: Operation<AttemptId, Nothing, AttemptIntent> = Operation::agent(
    "agentAttempt",
    Verb::Get,
    path::AGENT_ATTEMPT,
    "A fresh read of an attempt and its ownership.",
);
/// An event of an attempt.
pub const AGENT_EVENT: Operation<AttemptId, AttemptEvent, AttemptIntent> = Operation::agent(
    "agentEvent",
    Verb::Post,
    path::AGENT_EVENT,
    "Records what a party of an attempt did.",
);
/// How a copy goes.
pub const AGENT_PROGRESS: Operation<AttemptId, Progress, Nothing> = Operation::agent(
    "agentProgress",
    Verb::Post,
    path::AGENT_PROGRESS,
    "Tells how a copy goes; kept in memory only.",
);
/// The destination takes the VM over.
pub const AGENT_CLAIM: Operation<VmId, OwnershipRequest, Ownership> = Operation::agent(
    "agentClaim",
    Verb::Post,
    path::AGENT_CLAIM,
    "The destination takes the VM over.",
);
/// The source keeps the VM.
pub const AGENT_REASSERT: Operation<VmId, OwnershipRequest, Ownership> = Operation::agent(
    "agentReassert",
    Verb::Post,
    path::AGENT_REASSERT,
    "The source keeps the VM; the attempt ends.",
);
/// The destination returns the VM.
pub const AGENT_GIVE_BACK: Operation<VmId, OwnershipRequest, Ownership> = Operation::agent(
    "agentGiveBack",
    Verb::Post,
    path::AGENT_GIVE_BACK,
    "The destination, which claimed the VM and never ran it, returns it.",
);
/// The VM runs at the destination.
pub const AGENT_SETTLE: Operation<VmId, OwnershipRequest, Ownership> = Operation::agent(
    "agentSettle",
    Verb::Post,
    path::AGENT_SETTLE,
    "The destination records that the VM runs there.",
);
