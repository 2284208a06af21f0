//! The destination's side of an attempt: performs what [`handoff::destination`] decides.

mod actions;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use api::body::{AttemptIntent, AttemptPatch};
use handoff::destination::{Action, Seen, Stage};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use types::{AttemptId, CarrierEvent, Side};
use vmm::Instance;

use crate::carrier_link::CarrierLink;
use crate::core::IncomingCore;
use crate::note::Note;
use crate::reporter::Reporter;
use crate::vm::Vm;

/// What arrives at the loop from outside.
enum Input {
    Seen(Seen),
    Carrier(CarrierEvent),
    /// The carrier's process has ended.
    CarrierGone,
    /// RAM and registers as they are here.
    State(Result<Note, String>),
}

/// Everything the loop holds.
struct Run<'a> {
    vm: &'a mut Vm,
    id: AttemptId,
    intent: AttemptIntent,
    core: IncomingCore,
    /// The core's clock began here.
    began: Instant,
    inputs: mpsc::Sender<Input>,
    tasks: JoinSet<()>,
    qemu: Option<Instance>,
    carrier: Option<CarrierLink>,
    reporter: Reporter,
    port: u16,
    /// Digests of the source and of this host.
    theirs: Option<Note>,
    ours: Option<Note>,
}

/// Begins to receive on behalf of attempt `id`.
pub(crate) async fn begin(vm: &mut Vm, id: AttemptId) -> Result<(), String> {
    let intent = vm.view.borrow().attempts.iter().find(|a| a.record.id == id).cloned();
    let intent = intent.ok_or("the attempt is no longer there")?;
    // Named by attempt: two attempts never share anything.
    let name = format!("d{}", &id.0.simple().to_string()[16..]);
    let instance = vm.host.hypervisor.plan(&intent.spec, &name).map_err(|e| e.to_string());
    let instance = match instance {
        Ok(instance) => instance,
        Err(why) => return refuse(vm, &intent, why).await,
    };
    vm.record.begin_incoming(&intent, instance);
    vm.record.resumes = intent.resumes;
    vm.record.ended = None;
    // From now on the controller is asked about it, whatever becomes of it.
    vm.publish().await;
    run(vm, intent, false).await
}

/// Nothing was made yet; the record is told and the attempt never begun again.
async fn refuse(vm: &mut Vm, intent: &AttemptIntent, why: String) -> Result<(), String> {
    let id = intent.record.id;
    let mut reporter = Reporter::new(vm.host.client.clone(), id, Side::Destination, 0);
    let patch = AttemptPatch { abort: Some(why.clone()), ..AttemptPatch::default() };
    reporter.post("refused", Some(why), patch);
    reporter.flush().await;
    vm.record.last_incoming = Some(id);
    vm.save()
}

/// Goes on with the attempt in the journal, once the record has been read.
pub(crate) async fn resume(vm: &mut Vm) -> Result<(), String> {
    let incoming = vm.record.incoming.clone().ok_or("no incoming attempt in the journal")?;
    // Without the record nothing is decided; the caller tries again.
    let intent =
        vm.host.client.attempt_intent(incoming.attempt).await.map_err(|e| e.to_string())?;
    run(vm, intent, true).await
}

async fn run(vm: &mut Vm, intent: AttemptIntent, restarted: bool) -> Result<(), String> {
    let incoming = vm.record.incoming.clone().ok_or("no incoming attempt in the journal")?;
    let (inputs, mut arrived) = mpsc::channel(256);
    let seq = if restarted { incoming.seq + 1000 } else { incoming.seq };
    let reporter = Reporter::new(vm.host.client.clone(), incoming.attempt, Side::Destination, seq);
    let mut run = Run {
        id: incoming.attempt,
        core: IncomingCore::new(incoming.stage, intent.record.verify, Duration::ZERO),
        began: Instant::now(),
        inputs,
        tasks: JoinSet::new(),
        qemu: None,
        carrier: None,
        reporter,
        port: 0,
        theirs: None,
        ours: None,
        intent,
        vm,
    };
    let mut queue = VecDeque::new();
    if run.core.ended() {
        return run.finish().await;
    }
    if restarted {
        let alive = run.adopt().await;
        queue.push_back(Seen::Restarted { alive });
    } else {
        let begin = run.core.begin();
        run.perform_all(begin, &mut queue).await;
    }
    loop {
        while let Some(seen) = queue.pop_front() {
            tracing::debug!(attempt = %run.id, ?seen, stage = ?run.core.stage(), "destination");
            if run.core.stage() == Stage::Claiming && !run.qemu_lives() {
                // Seen before the claim's answer is acted on: what never executed goes back.
                let actions = run.core.on(Seen::QemuDied);
                run.perform_all(actions, &mut queue).await;
            }
            let actions = run.core.on(seen);
            run.perform_all(actions, &mut queue).await;
            if run.core.ended() {
                return run.finish().await;
            }
        }
        let deadline = run.core.deadline();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until((run.began + at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            input = arrived.recv() => match input {
                Some(input) => run.take(input, &mut queue),
                None => return Err("the attempt's channel closed".into()),
            },
            changed = run.vm.view.changed() => match changed {
                Ok(()) => run.look_at_view(&mut queue),
                Err(_) => std::future::pending().await,
            },
            () = timer => queue.push_back(run.core.overdue()),
        }
    }
}

impl Run<'_> {
    /// Whether the incoming QEMU's process is there.
    fn qemu_lives(&self) -> bool {
        let incoming = self.vm.record.incoming.as_ref();
        incoming.is_some_and(|i| self.vm.host.hypervisor.is_alive(&i.instance))
    }

    async fn perform_all(&mut self, actions: Vec<Action>, queue: &mut VecDeque<Seen>) {
        for action in actions {
            if let Err(failed) = self.perform(action, queue).await {
                queue.push_front(failed);
                return;
            }
        }
    }

    fn look_at_view(&mut self, queue: &mut VecDeque<Seen>) {
        let view = self.vm.view.borrow_and_update().clone();
        let Some(intent) = view.attempts.into_iter().find(|a| a.record.id == self.id) else {
            return;
        };
        queue.extend(self.core.intent(&intent));
        self.intent = intent;
    }

    fn take(&mut self, input: Input, queue: &mut VecDeque<Seen>) {
        match input {
            Input::Seen(seen) => queue.push_back(seen),
            Input::Carrier(event) => self.carrier_event(event, queue),
            Input::CarrierGone => queue.extend(self.core.carrier_gone()),
            Input::State(Ok(note)) => {
                self.ours = Some(note);
                self.compare(queue);
            }
            Input::State(Err(why)) => {
                queue.push_back(Seen::Failed(format!("cannot compare states: {why}")));
            }
        }
    }

    fn carrier_event(&mut self, event: CarrierEvent, queue: &mut VecDeque<Seen>) {
        queue.extend(self.core.carrier(&event));
        let CarrierEvent::Note { text } = event else { return };
        match Note::from_text(&text) {
            Some(Note::Stopped { paused }) => {
                if let Some(incoming) = &mut self.vm.record.incoming {
                    incoming.paused = paused;
                }
                queue.push_back(Seen::ToldStopped);
            }
            Some(note @ Note::State { .. }) => {
                self.theirs = Some(note);
                self.compare(queue);
            }
            _ => tracing::warn!("the peer said something this agent does not know"),
        }
    }

    fn compare(&mut self, queue: &mut VecDeque<Seen>) {
        let (Some(theirs), Some(ours)) = (&self.theirs, &self.ours) else { return };
        let equal = theirs == ours;
        let detail = if equal { None } else { Some(format!("source {theirs:?}, here {ours:?}")) };
        let patch = AttemptPatch { state_equal: Some(equal), ..AttemptPatch::default() };
        self.reporter.post(if equal { "state-equal" } else { "state-differs" }, detail, patch);
        queue.push_back(Seen::Compared { equal });
    }

    async fn perform(&mut self, action: Action, queue: &mut VecDeque<Seen>) -> Result<(), Seen> {
        match action {
            Action::Journal(stage) => self.journal(stage).await.map_err(Seen::NotJournalled)?,
            Action::Prepare => {
                self.prepare().await.map_err(Seen::Failed)?;
                queue.push_back(Seen::Prepared);
            }
            Action::TellReady => self.tell_ready(),
            Action::Compare => self.take_state(),
            Action::Claim => self.claim(),
            Action::Start => self.start(),
            Action::TellRunning => self.note(&Note::Running).await,
            Action::Settle => self.settle(),
            Action::TellRefused(why) => self.tell_refused(why).await,
            Action::GiveBack => self.give_back(),
            Action::Adopt => self.adopt_as_own(),
            Action::End => self.end(queue).await,
            Action::Alarm(what) => {
                tracing::error!(attempt = %self.id, what, "ALARM");
                self.reporter.post("alarm", Some(what), AttemptPatch::default());
            }
        }
        Ok(())
    }

    async fn journal(&mut self, stage: Stage) -> Result<(), String> {
        self.vm.record.destination_at(stage, self.reporter.seq());
        self.vm.save_at_last().await
    }

    /// Forgets the attempt. What it left behind is the VM's, or nothing.
    async fn finish(mut self) -> Result<(), String> {
        self.tasks.abort_all();
        self.reporter.flush().await;
        let incoming = self.vm.record.incoming.clone();
        let settled = self.vm.record.destination_over();
        // Not durable: it is not forgotten, and this is done again.
        self.vm.save().inspect_err(|_| self.vm.record.incoming = incoming)?;
        if settled {
            self.see_carrier_out();
        }
        Ok(())
    }
}
