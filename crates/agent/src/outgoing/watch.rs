//! What the source asks of the controller.

use std::time::Duration;

use api::body::AttemptPatch;
use api::client::{Client, ClientError};
use handoff::source::Seen;
use handoff::{Verdict, verdict};
use types::AttemptId;

use super::{Input, Run};
use crate::core;

/// The store must answer within this before the VM is stopped: it will be
/// needed to start the VM again.
const BUDGET: Duration = Duration::from_millis(500);

impl Run<'_> {
    /// One fresh read within the budget.
    pub(super) fn ask(&mut self) {
        let (client, id, inputs) = (self.vm.host.client.clone(), self.id, self.inputs.clone());
        self.tasks.spawn(async move {
            let seen = match tokio::time::timeout(BUDGET, client.attempt_intent(id)).await {
                Ok(Ok(intent)) => Seen::Answer(verdict(&intent.ownership, &intent.record)),
                _ => Seen::NoAnswer,
            };
            let _ = inputs.send(Input::Seen(seen)).await;
        });
    }

    /// Polls the record; what it says is only ever a fact, never a guess.
    pub(super) fn watch(&mut self) {
        let (client, id, inputs) = (self.vm.host.client.clone(), self.id, self.inputs.clone());
        self.tasks.spawn(async move {
            let mut pause = Duration::from_millis(20);
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
                if let Ok(intent) = client.attempt_intent(id).await {
                    let verdict = verdict(&intent.ownership, &intent.record);
                    let last =
                        matches!(verdict, Verdict::Claimed { settled: true } | Verdict::Superseded);
                    if inputs.send(Input::Seen(Seen::Record(verdict))).await.is_err() || last {
                        return;
                    }
                }
            }
        });
    }

    /// Compare-and-swap, until it is answered.
    pub(super) fn reassert(&mut self) {
        let (client, id, inputs) = (self.vm.host.client.clone(), self.id, self.inputs.clone());
        let vm = self.vm.record.vm;
        if let Some(why) = self.broken.take() {
            let patch = AttemptPatch { abort: Some(why.clone()), ..AttemptPatch::default() };
            self.reporter.post("broken", Some(why), patch);
        }
        // The reason should stand in the record before the outcome does.
        let told = tokio::time::timeout(Duration::from_secs(1), self.reporter.flush());
        self.tasks.spawn(async move {
            let _ = told.await;
            let mut pause = Duration::from_millis(20);
            loop {
                match reassert_once(&client, vm, id).await {
                    Ok(seen) => {
                        let _ = inputs.send(Input::Seen(seen)).await;
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "cannot reassert yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        });
    }
}

async fn reassert_once(
    client: &Client,
    vm: types::VmId,
    id: AttemptId,
) -> Result<Seen, ClientError> {
    let intent = client.attempt_intent(id).await?;
    match core::reassert(&intent) {
        Ok(request) => client.reassert(vm, &request).await.map(|_| Seen::Reasserted),
        Err(seen) => Ok(seen),
    }
}
