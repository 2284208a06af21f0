//! What the source does to QEMU and to its carrier.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::body::AttemptPatch;
use handoff::source::Seen;
use serde_json::json;
use types::{AttemptPhase, CarrierCommand, CarrierConfig, CarrierSide};

use super::{Input, Run};
use crate::carrier_link;
use crate::config::DataPlane;
use crate::core::{Qemu, run_state};
use crate::note::Note;
use crate::state;

/// How often QEMU is asked how far it is: while it copies, and during the blackout.
const POLL: Duration = Duration::from_millis(15);
const HURRY: Duration = Duration::from_millis(2);
/// A `stop`, or the look after it, that takes longer may be waiting for the stream to be
/// read: a QEMU whose VM is stopped completes at once.
const SLOW: Duration = Duration::from_millis(150);

impl Run<'_> {
    /// Starts the carrier; the migration begins once the two carriers have met.
    pub(super) async fn begin_copy(&mut self) -> Result<(), String> {
        let intent = self.intent.clone().ok_or("the attempt is unknown")?;
        let connect = intent.record.destination.clone().ok_or("no destination's address")?;
        let instance = self.vm.record.instance.clone().ok_or("the VM has no QEMU")?;
        let config = &self.vm.host.config;
        let carrier = CarrierConfig {
            attempt: self.id,
            secret: intent.record.secret,
            host: config.host.clone(),
            peer: intent.record.to,
            ca: config.ca.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
            control: instance.carrier_control(),
            qemu: instance.migration_socket(),
            side: CarrierSide::Source {
                connect,
                opaque: config.data_plane == DataPlane::Opaque,
                recheck: self.vm.host.recheck(&instance),
                outage: config.outage,
                force: config.force,
            },
        };
        let hypervisor = &self.vm.host.hypervisor;
        hypervisor.start_carrier(&instance, &carrier).await.map_err(|e| e.to_string())?;
        let (link, mut events) = carrier_link::connect(hypervisor, &instance).await?;
        self.carrier = Some(link);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            while let Some(event) = events.recv().await {
                if inputs.send(Input::Carrier(event, Instant::now())).await.is_err() {
                    return;
                }
            }
            let _ = inputs.send(Input::CarrierGone).await;
        });
        self.prepare_qemu().await.map_err(|e| e.to_string())?;
        let patch = AttemptPatch { phase: Some(AttemptPhase::Copying), ..AttemptPatch::default() };
        self.reporter.post("copying", None, patch);
        Ok(())
    }

    /// QEMU's side of the migration's settings. We decide when to stop, so QEMU's
    /// own idea of an acceptable downtime is made as small as it can be.
    async fn prepare_qemu(&self) -> Result<(), qmp::QmpError> {
        let Some(qemu) = &self.vm.qemu else { return Ok(()) };
        // Without "events": one for each pass would be a thousand a second while the gate is closed.
        let mut capabilities = vec![("return-path", true)];
        if qemu.features.switchover_ack {
            capabilities.push(("switchover-ack", true));
        }
        qemu.qmp.set_capabilities(&capabilities).await?;
        qemu.qmp.set_parameters(json!({ "max-bandwidth": 0, "downtime-limit": 1 })).await
    }

    /// Whether the VM is to be stopped before anything is copied: an emulator's dirty
    /// log is not exact, and of a stream nobody looks into nothing can be compared
    /// with what was sent. A long blackout is better than a wrong memory.
    pub(super) fn must_stop_first(&self) -> bool {
        let host = &self.vm.host;
        let opaque = host.config.data_plane == DataPlane::Opaque;
        opaque && self.vm.record.instance.as_ref().is_some_and(|i| !host.recheck(i).is_empty())
    }

    /// The carriers have met: QEMU begins to send, and is watched from now on.
    pub(super) fn connected(&mut self) -> Option<Seen> {
        let (Ok(qmp), Some(instance)) = (self.vm.qmp(), self.vm.record.instance.clone()) else {
            return Some(Seen::Broken("the source's QEMU does not answer".into()));
        };
        let (inputs, hurry) = (self.inputs.clone(), self.hurry.clone());
        self.tasks.spawn(async move {
            let uri = format!("unix:{}", instance.migration_socket().display());
            if let Err(error) = qmp.migrate(&uri).await {
                let why = format!("the source's QEMU did not begin to migrate: {error}");
                let _ = inputs.send(Input::Seen(Seen::Broken(why))).await;
                return;
            }
            // While completing, QEMU may not answer for as long as its stream is not read.
            loop {
                if let Ok(migration) = qmp.query_migrate().await
                    && inputs.send(Input::Migration(migration)).await.is_err()
                {
                    return;
                }
                let hurry = hurry.load(Ordering::Relaxed);
                tokio::time::sleep(if hurry { HURRY } else { POLL }).await;
            }
        });
        None
    }

    pub(super) async fn command(&mut self, command: CarrierCommand) -> Result<(), String> {
        match &mut self.carrier {
            Some(carrier) => carrier.send(&command).await,
            None => Err("there is no carrier".into()),
        }
    }

    /// Sends a note; a carrier that is gone shows in its events.
    pub(super) async fn note(&mut self, note: &Note) {
        let _ = self.command(CarrierCommand::Note { text: note.to_text() }).await;
    }

    /// Stops the VM and finds out who stopped it.
    pub(super) fn stop(&mut self) {
        let Ok(qmp) = self.vm.qmp() else { return };
        let gated = self.vm.qemu.as_ref().is_some_and(|q| q.features.switchover_ack);
        let harmless = gated || self.vm_was_paused();
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let stop = stop_and_look(&qmp, harmless);
            tokio::pin!(stop);
            let seen = tokio::select! {
                seen = &mut stop => seen,
                () = tokio::time::sleep(SLOW) => {
                    let _ = inputs.send(Input::StopIsSlow).await;
                    stop.await
                }
            };
            let _ = inputs.send(Input::Seen(seen)).await;
        });
    }

    pub(super) async fn order_tail(&mut self) {
        if let Some(carrier) = &mut self.carrier {
            take_the_rest(carrier).await;
        }
    }

    pub(super) async fn tell_stopped(&mut self) {
        let paused = self.vm_was_paused();
        self.note(&Note::Stopped { paused }).await;
        self.reporter.post(
            "stopped",
            paused.then(|| "it was paused".into()),
            AttemptPatch::default(),
        );
        let verify = self.intent.as_ref().is_some_and(|i| i.record.verify);
        let (Ok(qmp), Some(instance)) = (self.vm.qmp(), &self.vm.record.instance) else { return };
        if !verify {
            return;
        }
        let (inputs, files) = (self.inputs.clone(), instance.memory_files());
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

    /// Ends carrier and migration. The carrier first: QEMU may be waiting for it.
    pub(super) async fn end_copy(&mut self, reason: &str) {
        let patch = AttemptPatch { abort: Some(reason.to_owned()), ..self.numbers() };
        self.broken = None;
        self.reporter.post("ending", Some(reason.to_owned()), patch);
        let _ = self.command(CarrierCommand::End).await;
        self.carrier = None;
        if let Some(instance) = &self.vm.record.instance {
            let _ = self.vm.host.hypervisor.end_carrier(instance).await;
        }
    }

    /// Until QEMU's migration is over and the VM does what it did before.
    pub(super) fn resume_vm(&mut self) {
        let (qmp, paused) = (self.vm.qmp(), self.vm_was_paused());
        let announce = qmp.clone().ok().filter(|_| !paused);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            if let Ok(qmp) = qmp {
                let _ = qmp.migrate_cancel().await;
                while let Err(error) = resume_once(&qmp, paused).await {
                    if error.is_disconnected() {
                        // QEMU is gone: there is nothing to resume; the VM's task sees it too.
                        break;
                    }
                    tracing::debug!(%error, "the VM does not go on yet");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            let _ = inputs.send(Input::Seen(Seen::Resumed)).await;
            // The other host may have told the network that the VM is there.
            if let Some(qmp) = announce {
                tokio::spawn(async move { qmp.announce_self().await });
            }
        });
    }

    /// Everything of the VM that is left here goes, but for its memory, which serves its
    /// return: the record says that it runs elsewhere. The carrier says its last word first.
    pub(super) async fn release(&mut self, queue: &mut VecDeque<Seen>) {
        let _ = self.command(CarrierCommand::End).await;
        let until = Instant::now() + Duration::from_millis(500);
        if let Some(instance) = self.vm.record.instance.clone() {
            while self.carrier.is_some()
                && self.vm.host.hypervisor.carrier_alive(&instance)
                && Instant::now() < until
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if let Err(error) = self.vm.host.hypervisor.end_and_retain(&instance).await {
                tracing::error!(%error, "cannot release; trying again");
                self.send_later(Duration::from_secs(1), Input::Seen(Seen::Restarted));
                return;
            }
        }
        self.carrier = None;
        self.vm.qemu = None;
        queue.push_back(Seen::Gone);
    }
}

/// The carrier reads as fast as QEMU writes; one that is gone shows in its events.
pub(super) async fn take_the_rest(carrier: &mut carrier_link::CarrierLink) {
    for command in [CarrierCommand::Tail, CarrierCommand::Release] {
        let _ = carrier.send(&command).await;
    }
}

/// Stops the VM; unless that is `harmless`, finds out who stopped it.
async fn stop_and_look(qmp: &qmp::Client, harmless: bool) -> Seen {
    match qmp.stop().await {
        Err(error) => Seen::Broken(format!("the source's QEMU did not stop: {error}")),
        Ok(()) if harmless => Seen::Stopped,
        Ok(()) => match qmp.status().await {
            Ok(status) if status.status == "paused" => Seen::Stopped,
            // Completing on its own account: `Completed` will tell.
            Ok(_) => Seen::StoppedItself,
            Err(error) => Seen::Broken(format!("the source's QEMU: {error}")),
        },
    }
}

async fn resume_once(qmp: &qmp::Client, paused: bool) -> Result<(), qmp::QmpError> {
    let migration = qmp.query_migrate().await?;
    if matches!(
        migration.status.as_str(),
        "active" | "setup" | "device" | "cancelling" | "pre-switchover"
    ) {
        return Err(qmp::QmpError::not_yet("its migration has not ended"));
    }
    let status = qmp.status().await?;
    if paused || matches!(run_state(&status.status), Qemu::Halted | Qemu::Off) {
        return Ok(());
    }
    if run_state(&status.status) != Qemu::Running {
        qmp.cont().await?;
        return Err(qmp::QmpError::not_yet("it has only just been told to go on"));
    }
    Ok(())
}
