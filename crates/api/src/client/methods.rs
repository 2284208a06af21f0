//! One method for each operation.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{AttemptId, Code, HostId, Ownership, Problem, Progress, VmId, VmName, VmSpec};
use uuid::Uuid;

use super::{Client, ClientError};
use crate::body::{
    AttemptEvent, AttemptIntent, AttemptView, CordonRequest, HistoryEvent, HistoryQuery, HostView,
    MigrateRequest, Nothing, OwnershipRequest, PreflightView, RebootRequest, SpecPatch,
    StartRequest, SyncReply, SyncRequest, VmView,
};
use crate::console::{self, ConsoleQuery};
use crate::contract;
use crate::operation::{Kind, Operation, Parameter};
use crate::path;

/// For a request that is answered as fast as the controller can.
const ANSWER: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, ClientError>;

/// What agents ask. Every one of these may be repeated.
impl Client {
    /// Facts in, intent out; waits as long as the request allows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sync(&self, request: &SyncRequest) -> Result<SyncReply> {
        let timeout = Duration::from_millis(request.wait_ms.min(30_000)) + ANSWER;
        self.ask_within(&contract::AGENT_SYNC, &(), request, timeout).await
    }

    /// A fresh read of an attempt and its ownership.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempt_intent(&self, attempt: AttemptId) -> Result<AttemptIntent> {
        self.ask(&contract::AGENT_ATTEMPT, &attempt, &Nothing {}).await
    }

    /// The destination takes the VM over.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn claim(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.ask(&contract::AGENT_CLAIM, &vm, request).await
    }

    /// The source keeps the VM; the attempt ends.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn reassert(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.ask(&contract::AGENT_REASSERT, &vm, request).await
    }

    /// The destination, which claimed the VM and never ran it, returns it.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn give_back(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.ask(&contract::AGENT_GIVE_BACK, &vm, request).await
    }

    /// The destination records that the VM runs there.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn settle(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.ask(&contract::AGENT_SETTLE, &vm, request).await
    }

    /// Records an event of an attempt; durable once this returns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn event(&self, attempt: AttemptId, event: &AttemptEvent) -> Result<AttemptIntent> {
        self.ask(&contract::AGENT_EVENT, &attempt, event).await
    }

    /// Shows how a copy goes; kept in memory only.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn progress(&self, attempt: AttemptId, progress: &Progress) -> Result<()> {
        let Nothing {} = self.ask(&contract::AGENT_PROGRESS, &attempt, progress).await?;
        Ok(())
    }
}

/// For a console: as long as the controller looks for the owner's connection, and
/// as it keeps an agent's.
const CONSOLE: Duration = Duration::from_secs(30);

/// Consoles.
impl Client {
    /// The serial port of a VM.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn console(&self, vm: &VmName, query: &ConsoleQuery) -> Result<console::Stream> {
        let ConsoleQuery { session, read_only, take_over, seen } = query;
        let query =
            format!("session={session}&read_only={read_only}&take_over={take_over}&seen={seen}");
        let path = format!("{}?{query}", path::fill(path::VM_CONSOLE, vm));
        let stream = self.upgrade(&path, CONSOLE).await?;
        stream.ok_or_else(|| {
            let problem = Problem::new(Code::Internal, "the controller offers no consoles");
            ClientError::Problem(problem.remedy("use a controller of this version"))
        })
    }

    /// A connection for the next user of a console of this host; `None` where
    /// none came for a while.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next_console(&self) -> Result<Option<console::Stream>> {
        self.upgrade(path::AGENT_CONSOLE, CONSOLE).await
    }
}

/// What users ask. A VM is named by its name or its UUID, both [`VmName`]s.
impl Client {
    /// The contract, as an OpenAPI document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn openapi(&self) -> Result<serde_json::Value> {
        self.ask(&contract::OPENAPI, &(), &Nothing {}).await
    }

    /// Every host.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hosts(&self) -> Result<Vec<HostView>> {
        self.ask(&contract::HOSTS, &(), &Nothing {}).await
    }

    /// Lets nothing new go to a host.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cordon(&self, host: &HostId, request: &CordonRequest) -> Result<HostView> {
        self.ask(&contract::HOST_CORDON, host, request).await
    }

    /// Lets VMs go to a host again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn uncordon(&self, host: &HostId) -> Result<HostView> {
        self.ask(&contract::HOST_UNCORDON, host, &Nothing {}).await
    }

    /// Every VM.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn vms(&self) -> Result<Vec<VmView>> {
        self.ask(&contract::VMS, &(), &Nothing {}).await
    }

    /// One VM.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn vm(&self, vm: &VmName) -> Result<VmView> {
        self.ask(&contract::VM, vm, &Nothing {}).await
    }

    /// Makes a VM, which is stopped at first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_vm(&self, spec: &VmSpec) -> Result<VmView> {
        self.ask(&contract::VM_CREATE, &(), spec).await
    }

    /// Forgets a stopped VM; its disks stay.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_vm(&self, vm: &VmName) -> Result<()> {
        let Nothing {} = self.ask(&contract::VM_DELETE, vm, &Nothing {}).await?;
        Ok(())
    }

    /// Asks for a VM to be started.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start(&self, vm: &VmName, request: &StartRequest) -> Result<VmView> {
        self.ask(&contract::VM_START, vm, request).await
    }

    /// Asks for a VM to be stopped at once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stop(&self, vm: &VmName) -> Result<VmView> {
        self.ask(&contract::VM_STOP, vm, &Nothing {}).await
    }

    /// Asks a VM's guest to power off.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn shutdown(&self, vm: &VmName) -> Result<VmView> {
        self.ask(&contract::VM_SHUTDOWN, vm, &Nothing {}).await
    }

    /// Asks for a VM to be rebooted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reboot(&self, vm: &VmName, request: &RebootRequest) -> Result<VmView> {
        self.ask(&contract::VM_REBOOT, vm, request).await
    }

    /// Changes a VM's spec.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set(&self, vm: &VmName, patch: &SpecPatch) -> Result<VmView> {
        self.ask(&contract::VM_SET, vm, patch).await
    }

    /// Asks for a VM's processors to be stopped.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause(&self, vm: &VmName) -> Result<VmView> {
        self.ask(&contract::VM_PAUSE, vm, &Nothing {}).await
    }

    /// Asks for a paused VM to go on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resume(&self, vm: &VmName) -> Result<VmView> {
        self.ask(&contract::VM_RESUME, vm, &Nothing {}).await
    }

    /// Begins a migration.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn migrate(&self, vm: &VmName, request: &MigrateRequest) -> Result<AttemptView> {
        self.ask(&contract::VM_MIGRATE, vm, request).await
    }

    /// What a migration would meet; nothing is touched.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn preflight(&self, vm: &VmName, request: &MigrateRequest) -> Result<PreflightView> {
        self.ask(&contract::VM_PREFLIGHT, vm, request).await
    }

    /// Asks for the migration of a VM to be given up.
    ///
    /// # Errors
    /// `too-late` once the destination owns the VM; see [`ClientError`].
    pub async fn cancel(&self, vm: &VmName) -> Result<AttemptView> {
        self.ask(&contract::VM_CANCEL, vm, &Nothing {}).await
    }

    /// One attempt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempt(&self, attempt: AttemptId) -> Result<AttemptView> {
        self.ask(&contract::ATTEMPT, &attempt, &Nothing {}).await
    }

    /// A part of the history, the oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryEvent>> {
        let parts = [
            query.vm.as_ref().map(|vm| format!("vm={vm}")),
            query.after.map(|after| format!("after={after}")),
            query.limit.map(|limit| format!("limit={limit}")),
        ];
        let query = parts.into_iter().flatten().collect::<Vec<_>>().join("&");
        let operation = contract::HISTORY;
        let path = format!("{}?{query}", operation.path);
        self.request(operation.verb.into(), &path, None::<&Nothing>, ANSWER).await
    }

    /// Asks what the contract says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask<P: Parameter, B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        operation: &Operation<P, B, A>,
        at: &P,
        body: &B,
    ) -> Result<A> {
        self.ask_within(operation, at, body, ANSWER).await
    }

    /// As [`Self::ask`], with another time-out. A change bears a key of its own, so
    /// that it may be repeated where its answer was lost.
    async fn ask_within<P: Parameter, B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        operation: &Operation<P, B, A>,
        at: &P,
        body: &B,
        timeout: Duration,
    ) -> Result<A> {
        let path = at.fill(operation.path);
        let body = operation.verb.has_body().then_some(body);
        let key = (operation.kind == Kind::Change).then(|| Uuid::new_v4().to_string());
        self.request_with(operation.verb.into(), &path, body, key.as_deref(), timeout).await
    }
}
