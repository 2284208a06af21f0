//! One method for each endpoint.

use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use types::{AttemptId, Ownership, Progress, VmId, VmName, VmSpec};

use super::{Client, ClientError};
use crate::body::{
    AttemptEvent, AttemptIntent, AttemptView, HistoryEvent, HistoryQuery, HostView, MigrateRequest,
    OwnershipRequest, StartRequest, SyncReply, SyncRequest, VmView,
};
use crate::path;

/// For a request that is answered as fast as the controller can.
const ANSWER: Duration = Duration::from_secs(10);

/// An empty object: `{}`.
#[derive(Serialize)]
struct Empty {}

type Result<T> = std::result::Result<T, ClientError>;

/// What agents ask. Every one of these may be repeated.
impl Client {
    /// Facts in, intent out; waits as long as the request allows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sync(&self, request: &SyncRequest) -> Result<SyncReply> {
        let timeout = Duration::from_millis(request.wait_ms.min(30_000)) + ANSWER;
        self.request(Method::POST, path::AGENT_SYNC, Some(request), timeout).await
    }

    /// A fresh read of an attempt and its ownership.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempt_intent(&self, attempt: AttemptId) -> Result<AttemptIntent> {
        self.get(&path::fill(path::AGENT_ATTEMPT, &attempt)).await
    }

    /// The destination takes the VM over.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn claim(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.post(&path::fill(path::AGENT_CLAIM, &vm), request).await
    }

    /// The source keeps the VM; the attempt ends.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn reassert(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.post(&path::fill(path::AGENT_REASSERT, &vm), request).await
    }

    /// The destination, which claimed the VM and never ran it, returns it.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn give_back(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.post(&path::fill(path::AGENT_GIVE_BACK, &vm), request).await
    }

    /// The destination records that the VM runs there.
    ///
    /// # Errors
    /// `conflict` where the comparison fails; see [`ClientError`].
    pub async fn settle(&self, vm: VmId, request: &OwnershipRequest) -> Result<Ownership> {
        self.post(&path::fill(path::AGENT_SETTLE, &vm), request).await
    }

    /// Records an event of an attempt; durable once this returns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn event(&self, attempt: AttemptId, event: &AttemptEvent) -> Result<AttemptIntent> {
        self.post(&path::fill(path::AGENT_EVENT, &attempt), event).await
    }

    /// Shows how a copy goes; kept in memory only.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn progress(&self, attempt: AttemptId, progress: &Progress) -> Result<()> {
        let IgnoredAny = self.post(&path::fill(path::AGENT_PROGRESS, &attempt), progress).await?;
        Ok(())
    }
}

/// What users ask. A VM is named by its name or its UUID, both [`VmName`]s.
impl Client {
    /// Every host.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hosts(&self) -> Result<Vec<HostView>> {
        self.get(path::HOSTS).await
    }

    /// Every VM.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn vms(&self) -> Result<Vec<VmView>> {
        self.get(path::VMS).await
    }

    /// One VM.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn vm(&self, vm: &VmName) -> Result<VmView> {
        self.get(&path::fill(path::VM, vm)).await
    }

    /// Makes a VM, which is stopped at first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_vm(&self, spec: &VmSpec) -> Result<VmView> {
        self.post(path::VMS, spec).await
    }

    /// Forgets a stopped VM; its disks stay.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_vm(&self, vm: &VmName) -> Result<()> {
        let path = path::fill(path::VM, vm);
        let IgnoredAny = self.request(Method::DELETE, &path, None::<&Empty>, ANSWER).await?;
        Ok(())
    }

    /// Asks for a VM to be started.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start(&self, vm: &VmName, request: &StartRequest) -> Result<VmView> {
        self.post(&path::fill(path::VM_START, vm), request).await
    }

    /// Asks for a VM to be stopped at once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stop(&self, vm: &VmName) -> Result<VmView> {
        self.post(&path::fill(path::VM_STOP, vm), &Empty {}).await
    }

    /// Asks for a VM's processors to be stopped.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause(&self, vm: &VmName) -> Result<VmView> {
        self.post(&path::fill(path::VM_PAUSE, vm), &Empty {}).await
    }

    /// Asks for a paused VM to go on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resume(&self, vm: &VmName) -> Result<VmView> {
        self.post(&path::fill(path::VM_RESUME, vm), &Empty {}).await
    }

    /// Begins a migration.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn migrate(&self, vm: &VmName, request: &MigrateRequest) -> Result<AttemptView> {
        self.post(&path::fill(path::VM_MIGRATE, vm), request).await
    }

    /// Asks for the migration of a VM to be given up.
    ///
    /// # Errors
    /// `too-late` once the destination owns the VM; see [`ClientError`].
    pub async fn cancel(&self, vm: &VmName) -> Result<AttemptView> {
        self.post(&path::fill(path::VM_CANCEL, vm), &Empty {}).await
    }

    /// One attempt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempt(&self, attempt: AttemptId) -> Result<AttemptView> {
        self.get(&path::fill(path::ATTEMPT, &attempt)).await
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
        self.get(&format!("{}?{query}", path::HISTORY)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.request(Method::GET, path, None::<&Empty>, ANSWER).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T> {
        self.request(Method::POST, path, Some(body), ANSWER).await
    }
}
