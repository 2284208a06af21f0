//! What the destination does to QEMU, to its carrier and to the record.

use std::collections::VecDeque;
use std::time::Duration;

use api::body::{AttemptPatch, OwnershipRequest};
use api::client::{Client, ClientError};
use handoff::destination::Seen;
use handoff::verdict;
use serde_json::json;
use types::{AttemptId, CarrierCommand, CarrierConfig, CarrierEvent, CarrierSide, RunState, VmId};
use vmm::Incoming as Launch;

use super::{Input, Run};
use crate::carrier_link;
use crate::config::DataPlane;
use crate::core::{Qemu, Swap, run_state, swapped, unsettled};
use crate::note::Note;
use crate::state;

/// Making memory, taps, QEMU and carrier.
const PREPARE: Duration = Duration::from_secs(60);
/// How often the incoming QEMU is asked whether it has loaded everything.
const POLL: Duration = Duration::from_millis(20);

impl Run<'_> {
    pub(super) async fn prepare(&mut self) -> Result<(), String> {
        match tokio::time::timeout(PREPARE, self.prepare_all()).await {
            Ok(result) => result,
            Err(_) => Err("the destination's QEMU and carrier did not start in time".into()),
        }
    }

    async fn prepare_all(&mut self) -> Result<(), String> {
        let incoming = self.vm.record.incoming.as_ref().ok_or("no incoming attempt")?;
        let plan = incoming.instance.clone();
        let hypervisor = &self.vm.host.hypervisor;
        let mut qemu = hypervisor.start(&plan, Launch::Yes).await.map_err(|e| e.to_string())?;
        if let Some(incoming) = &mut self.vm.record.incoming {
            incoming.instance = qemu.record.clone();
        }
        self.vm.save()?;
        let qmp = qemu.qmp.clone();
        let stays_paused = self.stays_at_rest();
        let listen = async {
            let mut capabilities = vec![("events", true)];
            if qemu.features.late_block_activate && !stays_paused {
                // Disks are opened for writing at `cont`, not when the stream ends. A VM
                // that stays paused sees no `cont`, and QEMU 7.2 cannot migrate again what
                // has never opened its disks.
                capabilities.push(("late-block-activate", true));
            }
            qmp.set_capabilities(&capabilities).await?;
            // The network hears of the VM's new place from us, after the claim. None at all
            // would be better than one, but QEMU (7.2 to 10.0 at least) then frees a timer of
            // virtio-net that the guest's next reset uses, and crashes.
            qmp.set_parameters(json!({ "announce-rounds": 1 })).await?;
            qmp.migrate_incoming(&format!("unix:{}", plan.migration_socket().display())).await
        };
        listen.await.map_err(|e| format!("the destination's QEMU: {e}"))?;
        self.watch_qemu(&mut qemu);
        let image = qemu.image;
        self.qemu = Some(qemu);
        self.start_carrier(&plan, image).await
    }

    /// The VM rests on the source, and is to rest here.
    fn stays_at_rest(&self) -> bool {
        self.intent.desired == RunState::Paused || self.intent.record.resting
    }

    async fn start_carrier(
        &mut self,
        plan: &vmm::InstanceRecord,
        image: bool,
    ) -> Result<(), String> {
        let config = &self.vm.host.config;
        let blocks =
            if config.data_plane == DataPlane::Direct { plan.blocks() } else { Vec::new() };
        let carrier = CarrierConfig {
            attempt: self.id,
            secret: self.intent.record.secret.clone(),
            host: config.host.clone(),
            peer: self.intent.record.from.clone(),
            ca: config.ca.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
            control: plan.carrier_control(),
            qemu: plan.migration_socket(),
            side: CarrierSide::Destination {
                listen: config.address.clone(),
                ports: config.carrier_ports,
                blocks,
                image,
            },
        };
        let hypervisor = &self.vm.host.hypervisor;
        hypervisor.start_carrier(plan, &carrier).await.map_err(|e| e.to_string())?;
        let (link, mut events) = carrier_link::connect(hypervisor, plan).await?;
        self.carrier = Some(link);
        self.port = loop {
            match events.recv().await {
                Some(CarrierEvent::Listening { port }) => break port,
                Some(CarrierEvent::Failed { reason }) => return Err(reason),
                Some(_) => {}
                None => return Err("the carrier ended".into()),
            }
        };
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            while let Some(event) = events.recv().await {
                if inputs.send(Input::Carrier(event)).await.is_err() {
                    return;
                }
            }
            let _ = inputs.send(Input::CarrierGone).await;
        });
        Ok(())
    }

    /// Tells of `Loaded` and of QEMU's end.
    fn watch_qemu(&mut self, qemu: &mut vmm::Instance) {
        let (qmp, inputs) = (qemu.qmp.clone(), self.inputs.clone());
        let may_rest = self.stays_at_rest();
        let mut events = qemu.take_events();
        self.tasks.spawn(async move {
            loop {
                match qmp.query_migrate().await {
                    Ok(migration) if migration.status == "completed" => {
                        let seen = loaded(&qmp, may_rest).await;
                        let _ = inputs.send(Input::Seen(seen)).await;
                        return;
                    }
                    Ok(migration) if migration.status == "failed" => {
                        let why = migration.error.unwrap_or_else(|| "loading failed".into());
                        let why = format!("the destination's QEMU: {why}");
                        let _ = inputs.send(Input::Seen(Seen::Failed(why))).await;
                        return;
                    }
                    Err(error) if error.is_disconnected() => return,
                    _ => {}
                }
                // Its events tell at once; a poll sees what an event lost in a gap told.
                let event = async {
                    match &mut events {
                        Some(events) => events.next().await,
                        None => std::future::pending().await,
                    }
                };
                if let Ok(None) = tokio::time::timeout(POLL, event).await {
                    return;
                }
            }
        });
        self.watch_exit(&qemu.record);
    }

    fn watch_exit(&mut self, record: &vmm::InstanceRecord) {
        let exit = self.vm.host.hypervisor.wait_exit(record);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            exit.await;
            let _ = inputs.send(Input::Seen(Seen::QemuDied)).await;
        });
    }

    /// After a restart: is the incoming QEMU still there?
    pub(super) async fn adopt(&mut self) -> bool {
        let Some(incoming) = &self.vm.record.incoming else { return false };
        let plan = incoming.instance.clone();
        let Ok(Some(qemu)) = self.vm.host.hypervisor.adopt(&plan).await else { return false };
        self.watch_exit(&qemu.record);
        self.qemu = Some(qemu);
        if let Ok((link, _)) = carrier_link::connect(&self.vm.host.hypervisor, &plan).await {
            self.carrier = Some(link);
        }
        true
    }

    pub(super) fn tell_ready(&mut self) {
        let config = &self.vm.host.config;
        let address = config.advertise.as_ref().unwrap_or(&config.address);
        let destination = format!("{address}:{}", self.port);
        let patch = AttemptPatch { destination: Some(destination.clone()), ..Default::default() };
        self.reporter.post("destination-ready", Some(destination), patch);
    }

    pub(super) fn take_state(&mut self) {
        let (Some(qemu), Some(incoming)) = (&self.qemu, &self.vm.record.incoming) else { return };
        let (qmp, files) = (qemu.qmp.clone(), incoming.instance.memory_files());
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let note = async {
                let shown = qmp.human("info registers -a").await.map_err(|e| e.to_string())?;
                let memory = tokio::task::spawn_blocking(move || state::memory_digest(&files))
                    .await
                    .map_err(|e| e.to_string())?
                    .map_err(|e| format!("memory file: {e}"))?;
                Ok(Note::State { memory, registers: state::register_digest(&shown) })
            };
            let _ = inputs.send(Input::State(note.await)).await;
        });
    }

    /// Compare-and-swap with the epoch the attempt began at, until it is answered.
    pub(super) fn claim(&mut self) {
        let request = self.request(self.intent.record.epoch);
        self.ask(move |client, vm, id| {
            let request = request.clone();
            async move {
                swap(&client, id, client.claim(vm, &request).await, Seen::Claimed, Seen::NotClaimed)
                    .await
            }
        });
    }

    pub(super) fn settle(&mut self) {
        let request = self.request(self.intent.record.epoch.next());
        self.ask(move |client, vm, id| {
            let request = request.clone();
            async move {
                let Err(error) = client.settle(vm, &request).await else {
                    return Ok(Seen::Settled);
                };
                match &error {
                    ClientError::Problem(problem) if swapped(Some(problem)) == Swap::Read => {
                        unsettled(&client.attempt_intent(id).await?).ok_or(error)
                    }
                    _ => Err(error),
                }
            }
        });
    }

    pub(super) fn give_back(&mut self) {
        let request = self.request(self.intent.record.epoch.next());
        self.ask(move |client, vm, id| {
            let request = request.clone();
            async move {
                let reply = client.give_back(vm, &request).await;
                swap(&client, id, reply, Seen::GivenBack, Seen::NotGivenBack).await
            }
        });
    }

    fn request(&self, epoch: types::Epoch) -> OwnershipRequest {
        OwnershipRequest { attempt: self.id, epoch, incarnation: self.intent.record.incarnation }
    }

    /// Asks the controller until it answers.
    fn ask<F, A>(&mut self, once: F)
    where
        F: Fn(Client, VmId, AttemptId) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Seen, ClientError>> + Send,
    {
        let (client, vm, id) = (self.vm.host.client.clone(), self.vm.record.vm, self.id);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let mut pause = Duration::from_millis(10);
            loop {
                match once(client.clone(), vm, id).await {
                    Ok(seen) => {
                        let _ = inputs.send(Input::Seen(seen)).await;
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "the controller has not decided yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        });
    }

    /// Execute, and tell the network. Tried until QEMU does it: the VM is ours now.
    pub(super) fn start(&mut self) {
        let Some(qemu) = &self.qemu else { return };
        let paused = self.vm.record.incoming.as_ref().is_some_and(|i| i.paused);
        let (qmp, inputs) = (qemu.qmp.clone(), self.inputs.clone());
        self.tasks.spawn(async move {
            if !paused && !execute(&qmp).await {
                return;
            }
            let _ = inputs.send(Input::Seen(Seen::Started)).await;
            if !paused {
                // Outlives the attempt's loop: a guest that never sends is found by it.
                tokio::spawn(async move { qmp.announce_self().await });
            }
        });
    }

    pub(super) async fn note(&mut self, note: &Note) {
        if let Some(carrier) = &mut self.carrier {
            let _ = carrier.send(&CarrierCommand::Note { text: note.to_text() }).await;
        }
    }

    pub(super) async fn tell_refused(&mut self, why: String) {
        self.note(&Note::Refused { why: why.clone() }).await;
        let patch = AttemptPatch { abort: Some(why.clone()), ..Default::default() };
        self.reporter.post("refused", Some(why), patch);
    }

    /// The incoming QEMU is the VM's own from now on; journalled with the stage that follows.
    pub(super) fn adopt_as_own(&mut self) {
        self.vm.record.adopt();
        self.vm.qemu = self.qemu.take();
    }

    /// Nothing of the attempt stays here. The refusal gets a moment to travel.
    pub(super) async fn end(&mut self, queue: &mut VecDeque<Seen>) {
        if let Some(carrier) = &mut self.carrier {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = carrier.send(&CarrierCommand::End).await;
        }
        self.tasks.abort_all();
        self.qemu = None;
        let Some(incoming) = &self.vm.record.incoming else { return };
        match self.vm.host.hypervisor.end(&incoming.instance).await {
            Ok(()) => {
                self.carrier = None;
                queue.push_back(Seen::Gone);
            }
            Err(error) => {
                tracing::error!(%error, "cannot end the incoming QEMU; trying again");
                let inputs = self.inputs.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let _ = inputs.send(Input::Seen(Seen::Restarted { alive: false })).await;
                });
            }
        }
    }

    /// Lets the carrier hand over its last notes, then sees that it is gone.
    pub(super) fn see_carrier_out(&mut self) {
        let Some(instance) = self.vm.record.instance.clone() else { return };
        let (host, carrier) = (self.vm.host.clone(), self.carrier.take());
        tokio::spawn(async move {
            for _ in 0..60 {
                if !host.hypervisor.carrier_alive(&instance) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            drop(carrier);
            let _ = host.hypervisor.end_carrier(&instance).await;
        });
    }
}

/// Everything has arrived. A VM that ran when its move began and failed in the moment
/// of the hand-over stays on the source, where it can be looked at and resumed.
async fn loaded(qmp: &qmp::Client, may_rest: bool) -> Seen {
    match qmp.status().await {
        Ok(status) if !may_rest => match run_state(&status.status) {
            Qemu::Halted | Qemu::Off => {
                Seen::Failed(format!("the VM stopped by itself ({})", status.status))
            }
            Qemu::Dead | Qemu::Running | Qemu::Paused => Seen::Loaded,
        },
        Ok(_) => Seen::Loaded,
        Err(error) => Seen::Failed(format!("the destination's QEMU: {error}")),
    }
}

/// Lets the processors run; false if QEMU is gone. What they do then, and be it that
/// they fail at once, is the VM's own affair.
async fn execute(qmp: &qmp::Client) -> bool {
    loop {
        let error = match qmp.status().await {
            // It was started before: by an agent that has restarted since.
            Ok(status) if run_state(&status.status) != Qemu::Paused => return true,
            Ok(_) => match qmp.cont().await {
                Ok(()) => return true,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if error.is_disconnected() {
            return false;
        }
        tracing::error!(%error, "the VM is ours and does not start yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A comparison that failed is answered with what the record says instead.
async fn swap<T>(
    client: &Client,
    id: AttemptId,
    reply: Result<T, ClientError>,
    yes: Seen,
    no: fn(handoff::Verdict) -> Seen,
) -> Result<Seen, ClientError> {
    let problem = match &reply {
        Err(ClientError::Problem(problem)) => Some(problem),
        _ => None,
    };
    match (swapped(problem), reply) {
        (Swap::Read, Err(_)) => {
            let intent = client.attempt_intent(id).await?;
            Ok(no(verdict(&intent.ownership, &intent.record)))
        }
        (_, reply) => reply.map(|_| yes),
    }
}
