//! The task of one VM: decides, acts, journals before it acts.

use std::sync::Arc;
use std::time::Duration;

use api::body::{Button, Ended, Press, VmFacts};
use tokio::sync::{oneshot, watch};
use types::{AttemptId, RunState};
use vmm::{Incoming as Launch, Instance};

use crate::core::{self, Qemu, Step, VmRecord, World, run_state};
use crate::host::{Entry, Host};
use crate::sync::View;
use crate::{incoming, outgoing};

/// A VM on this host, and everything the task holds of it.
pub(crate) struct Vm {
    pub(crate) host: Arc<Host>,
    pub(crate) record: VmRecord,
    pub(crate) view: watch::Receiver<View>,
    /// The connection to the QEMU of `record.instance`, if that lives.
    pub(crate) qemu: Option<Instance>,
    error: Option<String>,
    /// Why it is [`Qemu::Halted`], in QEMU's words.
    pub(crate) halted: Option<String>,
    /// Already called for a person about this.
    alarmed: bool,
}

/// A journal that cannot be written is tried again this much later.
const SAVE_AGAIN: Duration = Duration::from_millis(200);
/// And no longer than so, where something else can be done.
const SAVE_FOR: Duration = Duration::from_secs(5);
/// What a QEMU said before it ended is read within this.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// After something failed it is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// Devices may come and go without a word.
const LOOK: Duration = Duration::from_secs(5);
/// Most reasons that are told.
const MAX_BLOCKERS: usize = 4;

/// A text of QEMU's, within bounds.
fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Runs the VM's task for ever; `adopted` is told when a QEMU from before has been found or not.
pub(crate) async fn run(
    host: Arc<Host>,
    record: VmRecord,
    view: watch::Receiver<View>,
    adopted: oneshot::Sender<()>,
) {
    host.consoles.register(&record, view.clone());
    let mut vm = Vm { host, record, view, qemu: None, error: None, halted: None, alarmed: false };
    vm.connect().await;
    vm.publish().await;
    let _ = adopted.send(());
    loop {
        let step = vm.decide().await;
        tracing::debug!(vm = %vm.record.vm, ?step, "decided");
        let result = vm.perform(step).await;
        if let Err(error) = &result {
            tracing::warn!(vm = %vm.record.vm, ?step, error, "failed");
            vm.error = Some(error.clone());
        } else if !matches!(step, Step::Wait) {
            vm.error = None;
        }
        vm.forget_if_gone();
        vm.publish().await;
        match (step, result) {
            (Step::Wait | Step::NotOurs, _) => vm.wait().await,
            (_, Err(_)) => {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = vm.view.changed() => {}
                }
            }
            _ => {}
        }
    }
}

impl Vm {
    /// Finds the QEMU of the journal again.
    async fn connect(&mut self) {
        let Some(instance) = &self.record.instance else { return };
        match self.host.hypervisor.adopt(instance).await {
            Ok(found) => self.qemu = found,
            Err(error) => {
                self.error = Some(format!("its QEMU does not answer: {error}"));
                tracing::warn!(vm = %self.record.vm, %error, "cannot adopt");
            }
        }
    }

    async fn decide(&mut self) -> Step {
        let view = self.view.borrow_and_update().clone();
        let qemu = self.look().await;
        // Only what the journal says is known before the controller was heard.
        if !view.heard && self.record.outgoing.is_none() && self.record.incoming.is_none() {
            return Step::Wait;
        }
        core::decide(&World {
            me: &self.host.config.host,
            record: &self.record,
            qemu,
            intent: view.intent.as_ref(),
            attempts: &view.attempts,
        })
    }

    /// What QEMU does. One that does not answer is resting for reasons unknown.
    pub(crate) async fn look(&mut self) -> Qemu {
        self.halted = None;
        let Some(record) = &self.record.instance else { return Qemu::Dead };
        if !self.host.hypervisor.is_alive(record) {
            self.hear_out().await;
            return Qemu::Dead;
        }
        if self.qemu.is_none() {
            self.connect().await;
        }
        let Some(instance) = &self.qemu else { return Qemu::Halted };
        match instance.qmp.status().await {
            Ok(status) => {
                let seen = run_state(&status.status);
                self.halted = (seen == Qemu::Halted).then_some(status.status);
                seen
            }
            Err(error) => {
                tracing::debug!(vm = %self.record.vm, %error, "no answer from QEMU");
                self.qemu = None;
                Qemu::Halted
            }
        }
    }

    async fn perform(&mut self, step: Step) -> Result<(), String> {
        if step != Step::NotOurs {
            self.alarmed = false;
        }
        match step {
            Step::Wait => Ok(()),
            Step::Start(generation) => self.start(generation).await,
            Step::Cont => self.qmp()?.cont().await.map_err(|e| e.to_string()),
            Step::Pause => self.qmp()?.stop().await.map_err(|e| e.to_string()),
            Step::GoOn(resumes) => {
                self.record.resumes = resumes;
                self.save()?;
                self.qmp()?.cont().await.map_err(|e| e.to_string())
            }
            Step::Press(press) => self.press(press).await,
            Step::End => {
                self.note_end().await;
                self.end().await
            }
            Step::NotOurs => {
                if !std::mem::replace(&mut self.alarmed, true) {
                    tracing::error!(vm = %self.record.vm, "a QEMU runs here, but the record gives its VM to another host; it is not touched");
                }
                Err("a QEMU runs here, but the record gives the VM to another host".into())
            }
            Step::BeginOutgoing(id) => outgoing::begin(self, id).await,
            Step::BeginIncoming(id) => incoming::begin(self, id).await,
            Step::ResumeOutgoing => outgoing::resume(self).await,
            Step::ResumeIncoming => incoming::resume(self).await,
        }
    }

    pub(crate) fn qmp(&self) -> Result<qmp::Client, String> {
        let instance = self.qemu.as_ref().ok_or("its QEMU does not answer")?;
        Ok(instance.qmp.clone())
    }

    async fn start(&mut self, generation: u64) -> Result<(), String> {
        let intent = self.view.borrow().intent.clone().ok_or("no longer this host's")?;
        let mut spec = intent.spec;
        let hypervisor = &self.host.hypervisor;
        spec.machine = hypervisor.resolve_machine(&spec.machine).map_err(|e| e.to_string())?;
        let name = format!("s{generation}");
        let instance = hypervisor.plan(&spec, &name).map_err(|e| e.to_string())?;
        let before = std::mem::replace(&mut self.record.start_generation, generation);
        self.record.ended = None;
        self.record.instance = Some(instance.clone());
        if let Err(error) = self.save() {
            // Nothing was made: the same start is tried again.
            self.record.start_generation = before;
            self.record.instance = None;
            return Err(error);
        }
        match self.host.hypervisor.start(&instance, Launch::No).await {
            Ok(started) => {
                self.record.instance = Some(started.record.clone());
                self.qemu = Some(started);
                self.save()?;
                if intent.desired == RunState::Running {
                    self.qmp()?.cont().await.map_err(|e| e.to_string())?;
                }
                tracing::info!(vm = %self.record.vm, generation, "started");
                Ok(())
            }
            Err(error) => {
                // `start` has undone everything itself.
                self.record.instance = None;
                self.save()?;
                Err(error.to_string())
            }
        }
    }

    /// What a QEMU that is gone said last, which tells whether its guest powered off.
    async fn hear_out(&mut self) {
        let Some(mut qemu) = self.qemu.take() else { return };
        while let Ok(Some(event)) = tokio::time::timeout(LAST_WORDS, qemu.events.next()).await {
            if by_guest(&event) {
                self.record.ended = Some(Ended::PoweredOff);
            }
        }
    }

    /// Notes how a QEMU ended that nobody ends now.
    async fn note_end(&mut self) {
        let wanted = self.view.borrow().intent.as_ref().map(|intent| intent.desired);
        self.record.ended = match self.look().await {
            Qemu::Off => Some(Ended::PoweredOff),
            Qemu::Dead if wanted != Some(RunState::Stopped) => {
                self.record.ended.or(Some(Ended::Died))
            }
            _ => None,
        };
    }

    /// Each press is acted on once at most, so it is journalled before.
    async fn press(&mut self, press: Press) -> Result<(), String> {
        let qmp = self.qmp()?;
        self.record.pressed = press.number;
        self.save()?;
        let done = match press.button {
            Button::Power | Button::Reboot => qmp.system_powerdown().await,
            Button::Reset => qmp.system_reset().await,
        };
        done.map_err(|e| e.to_string())
    }

    pub(crate) async fn end(&mut self) -> Result<(), String> {
        if let Some(instance) = self.record.instance.clone() {
            self.host.hypervisor.end(&instance).await.map_err(|e| e.to_string())?;
        }
        self.qemu = None;
        self.record.instance = None;
        self.save()
    }

    pub(crate) fn save(&self) -> Result<(), String> {
        self.host.consoles.update(&self.record);
        let name = self.record.stage();
        tracing::trace!(target: "point", place = "journal", %name, when = "before");
        self.host.journal.save(&self.record).map_err(|e| e.to_string())?;
        tracing::trace!(target: "point", place = "journal", %name, when = "after");
        Ok(())
    }

    /// Says on the board what is seen.
    pub(crate) async fn publish(&mut self) {
        let seen = self.look().await;
        let blockers = self.blockers().await;
        let view = self.view.borrow();
        let owned = view.intent.is_some();
        let here = self.record.instance.is_some();
        let facts = (here || (owned && self.record.incoming.is_none())).then(|| VmFacts {
            vm: self.record.vm,
            state: match seen {
                Qemu::Dead => RunState::Stopped,
                Qemu::Running => RunState::Running,
                Qemu::Paused | Qemu::Halted | Qemu::Off => RunState::Paused,
            },
            start_generation: self.record.start_generation,
            halted: self.halted.clone(),
            ended: self.record.ended,
            machine: self.record.instance.as_ref().map(|i| i.spec.machine.clone()),
            error: self.error.clone(),
            blockers,
        });
        drop(view);
        self.host.board.set(self.record.vm, Entry { facts, attempts: self.attempts() });
    }

    /// Why QEMU would refuse to migrate.
    async fn blockers(&self) -> Vec<String> {
        let Some(instance) = &self.qemu else { return Vec::new() };
        match instance.qmp.query_migrate().await {
            Ok(migration) => {
                migration.blocked.iter().take(MAX_BLOCKERS).map(|t| short(t)).collect()
            }
            Err(error) => {
                tracing::debug!(vm = %self.record.vm, %error, "QEMU does not tell what blocks it");
                Vec::new()
            }
        }
    }

    fn attempts(&self) -> Vec<AttemptId> {
        let outgoing = self.record.outgoing.iter().map(|o| o.attempt);
        outgoing.chain(self.record.incoming.iter().map(|i| i.attempt)).collect()
    }

    /// A VM of which nothing is left here, and nothing is asked, has no journal.
    fn forget_if_gone(&mut self) {
        let view = self.view.borrow();
        let asked = !view.heard || view.intent.is_some() || !view.attempts.is_empty();
        drop(view);
        if !asked
            && self.record.is_empty()
            && let Err(error) = self.host.journal.remove(self.record.vm)
        {
            tracing::warn!(%error, "an empty record stays");
        }
    }

    /// Until the controller or QEMU has something new.
    async fn wait(&mut self) {
        let exit = async {
            match &self.record.instance {
                Some(instance) => self.host.hypervisor.wait_exit(instance).await,
                None => std::future::pending().await,
            }
        };
        let event = async {
            match &mut self.qemu {
                Some(instance) => instance.events.next().await,
                None => std::future::pending().await,
            }
        };
        let closed = tokio::select! {
            _ = exit => false,
            () = tokio::time::sleep(LOOK) => false,
            event = event => match event {
                Some(event) => {
                    if by_guest(&event) {
                        self.record.ended = Some(Ended::PoweredOff);
                    }
                    false
                }
                None => true,
            },
            changed = self.view.changed() => {
                if changed.is_err() {
                    // The agent ends.
                    std::future::pending::<()>().await;
                }
                false
            }
        };
        if closed {
            self.qemu = None;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Saves, waiting a while for a journal that cannot be written: a VM that runs
    /// runs on meanwhile, one that rests rests.
    pub(crate) async fn save_at_last(&mut self) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + SAVE_FOR;
        while let Err(error) = self.save() {
            if tokio::time::Instant::now() > deadline {
                return Err(error);
            }
            let error = Some(format!("the migration waits: {error}"));
            if self.error != error {
                tracing::error!(vm = %self.record.vm, error, "a journal cannot be written");
                self.error = error;
            }
            self.publish().await;
            tokio::time::sleep(SAVE_AGAIN).await;
        }
        Ok(())
    }
}

/// Whether an event says that the guest has powered off.
pub(crate) fn by_guest(event: &qmp::Event) -> bool {
    match event {
        qmp::Event::Named { name, data, .. } => {
            name == "SHUTDOWN" && data.get("guest").and_then(|guest| guest.as_bool()) == Some(true)
        }
        qmp::Event::Gap(_) => false,
    }
}
