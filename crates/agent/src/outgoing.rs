//! The source's side of an attempt: performs what [`handoff::source`] decides.

mod actions;
mod guest;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use api::body::{AttemptIntent, AttemptPatch, Ended};
use handoff::source::{Action, Seen, Stage};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use types::{AttemptId, AttemptPhase, CarrierEvent, Counters, Mode, Progress, Side};

use crate::carrier_link::{self, CarrierLink};
use crate::converge::{Advice, Pass, Policy};
use crate::core::{OutgoingCore, Qemu, Told};
use crate::note::Note;
use crate::reporter::Reporter;
use crate::vm::Vm;

/// What arrives at the loop from outside.
enum Input {
    Seen(Seen),
    /// QEMU's word on the migration.
    Migration(qmp::Migration),
    /// An event of QEMU.
    Event(qmp::Event),
    /// QEMU stopped the VM by itself, and is in this run state.
    AtRest(String),
    /// An event of the carrier, with the time of its receipt.
    Carrier(CarrierEvent, Instant),
    /// The carrier's process has ended.
    CarrierGone,
    /// `stop` takes long: QEMU may be waiting for its stream to be read.
    StopIsSlow,
    /// The digests of the stopped VM.
    State(Result<Note, String>),
}

/// Everything the loop holds.
struct Run<'a> {
    vm: &'a mut Vm,
    id: AttemptId,
    intent: Option<AttemptIntent>,
    core: OutgoingCore,
    /// The core's clock began here.
    began: Instant,
    inputs: mpsc::Sender<Input>,
    tasks: JoinSet<()>,
    carrier: Option<CarrierLink>,
    policy: Policy,
    reporter: Reporter,
    counters: Counters,
    mode: Option<Mode>,
    rounds: u64,
    round_trip: Option<Duration>,
    /// The carriers are connected: nothing is decided on what is not sent for want of a link.
    linked: bool,
    stopped_at: Option<Instant>,
    /// The VM is stopped: QEMU is asked more often.
    hurry: Arc<AtomicBool>,
    blackout: Option<Duration>,
    /// Things the guest did that the history was told.
    told: u32,
    /// What broke, until the record knows.
    broken: Option<String>,
    last_progress: Instant,
}

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(250);

/// Begins attempt `id`, which the record has open for this VM.
pub(crate) async fn begin(vm: &mut Vm, id: AttemptId) -> Result<(), String> {
    let intent = vm.view.borrow().attempts.iter().find(|a| a.record.id == id).cloned();
    let intent = intent.ok_or("the attempt is no longer there")?;
    let found = vm.look().await;
    let was_paused = found != Qemu::Running;
    let first = guest::at_begin(vm, found, &intent);
    vm.record.begin_outgoing(id, intent.record.to.clone(), was_paused);
    if let Err(error) = vm.save() {
        // Nothing was done: it is begun anew.
        vm.record.outgoing = None;
        return Err(error);
    }
    vm.publish().await;
    run(vm, Some(intent), first).await
}

/// After a restart, before QEMU is asked anything: while its stream is held it may be
/// unable to answer. An undecided attempt ends anyway; one that is handed over takes the rest.
pub(crate) async fn let_speak(vm: &Vm) {
    let (Some(outgoing), Some(instance)) = (&vm.record.outgoing, &vm.record.instance) else {
        return;
    };
    let hypervisor = &vm.host.hypervisor;
    match outgoing.stage {
        Stage::Preparing | Stage::Copying => {
            let _ = hypervisor.end_carrier(instance).await;
        }
        Stage::Handing => {
            if let Ok((mut carrier, _)) = carrier_link::connect(hypervisor, instance).await {
                actions::take_the_rest(&mut carrier).await;
            }
        }
        Stage::Keeping | Stage::Releasing | Stage::Kept | Stage::Released => {}
    }
}

/// Goes on with the attempt in the journal.
pub(crate) async fn resume(vm: &mut Vm) -> Result<(), String> {
    run(vm, None, Some(Seen::Restarted)).await
}

async fn run(
    vm: &mut Vm,
    intent: Option<AttemptIntent>,
    first: Option<Seen>,
) -> Result<(), String> {
    let outgoing = vm.record.outgoing.clone().ok_or("no outgoing attempt in the journal")?;
    let (inputs, mut arrived) = mpsc::channel(256);
    // Room for the events that may have been sent after the last entry of the journal.
    let restarted = first == Some(Seen::Restarted);
    let seq = if restarted { outgoing.seq + 1000 } else { outgoing.seq };
    let reporter = Reporter::new(vm.host.client.clone(), outgoing.attempt, Side::Source, seq);
    let gated = vm.qemu.as_ref().is_some_and(|q| q.features.switchover_ack);
    let budget = intent.as_ref().map_or(300, |i| i.record.blackout_budget_ms);
    let mut run = Run {
        id: outgoing.attempt,
        core: OutgoingCore::new(outgoing.stage, gated, Duration::ZERO),
        began: Instant::now(),
        inputs,
        tasks: JoinSet::new(),
        carrier: None,
        policy: Policy::new(Duration::from_millis(budget)),
        reporter,
        counters: Counters::default(),
        mode: None,
        rounds: 0,
        round_trip: None,
        linked: true,
        stopped_at: None,
        hurry: Arc::default(),
        blackout: None,
        told: 0,
        broken: restarted.then(|| "the source's agent restarted".to_owned()),
        last_progress: Instant::now(),
        intent,
        vm,
    };
    run.forward_qemu_events();
    let mut queue: VecDeque<Seen> = first.into_iter().collect();
    // The journal already holds a decision that only has to be told.
    if run.core.ended() {
        return run.finish(&mut arrived).await;
    }
    if run.vm.record.ended == Some(Ended::PoweredOff) {
        run.vm.record.ended = None;
        run.powered_off(&mut queue);
    }
    run.look_at_view(&mut queue);
    loop {
        while let Some(seen) = queue.pop_front() {
            run.remember(&seen);
            tracing::debug!(attempt = %run.id, ?seen, stage = ?run.core.stage(), "source");
            let now = run.now();
            for action in run.core.on(seen, now) {
                if let Err(failed) = run.perform(action, &mut queue).await {
                    queue.push_front(failed);
                    break;
                }
            }
            if run.core.ended() {
                return run.finish(&mut arrived).await;
            }
        }
        let deadline = tokio::time::Instant::from_std(run.began + run.core.deadline());
        tokio::select! {
            input = arrived.recv() => match input {
                Some(input) => run.take(input, &mut queue).await,
                None => return Err("the attempt's channel closed".into()),
            },
            changed = run.vm.view.changed() => match changed {
                Ok(()) => run.look_at_view(&mut queue),
                Err(_) => std::future::pending().await,
            },
            () = tokio::time::sleep_until(deadline) => {
                let now = run.now();
                queue.extend(run.core.overdue(now));
            }
        }
    }
}

impl Run<'_> {
    /// What is told later.
    fn remember(&mut self, seen: &Seen) {
        match seen {
            Seen::Broken(why) => {
                self.broken.get_or_insert_with(|| why.clone());
            }
            // QEMU's own event tells more exactly, if it came.
            Seen::Stopped | Seen::StoppedItself if !self.vm_was_paused() => {
                self.stopped_at.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }

    /// QEMU's events, stamped on arrival, as long as the attempt goes on.
    fn forward_qemu_events(&mut self) {
        let Some(qemu) = &mut self.vm.qemu else { return };
        let Some(mut events) = qemu.take_events() else { return };
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            while let Some(event) = events.next().await {
                if inputs.send(Input::Event(event)).await.is_err() {
                    return;
                }
            }
            // QEMU closed its monitor: it has ended.
            let _ = inputs.send(Input::Seen(Seen::Broken("the source's QEMU ended".into()))).await;
        });
    }

    /// What the controller says, as far as it matters now.
    fn look_at_view(&mut self, queue: &mut VecDeque<Seen>) {
        let view = self.vm.view.borrow_and_update().clone();
        let Some(intent) = view.attempts.into_iter().find(|a| a.record.id == self.id) else {
            return;
        };
        let (seen, told) = self.core.intent(&intent, self.carrier.is_some());
        queue.extend(seen);
        self.told(told, queue);
        self.intent = Some(intent);
    }

    fn told(&mut self, told: Told, queue: &mut VecDeque<Seen>) {
        match told {
            Told::Nothing => {}
            Told::Now(seen) => queue.push_back(seen),
            Told::Later(seen, after) => self.send_later(after, Input::Seen(seen)),
        }
    }

    /// The core's clock.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn send_later(&mut self, after: Duration, input: Input) {
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(after).await;
            let _ = inputs.send(input).await;
        });
    }

    async fn take(&mut self, input: Input, queue: &mut VecDeque<Seen>) {
        match input {
            Input::Seen(Seen::Record(verdict)) if !self.core.running_seen() => {
                let told = self.core.record(verdict, self.carrier.is_some());
                self.told(told, queue);
            }
            Input::Seen(seen) => queue.push_back(seen),
            Input::Event(event) => self.qemu_event(&event, queue),
            Input::AtRest(status) => self.at_rest(&status, queue),
            Input::Migration(migration) => self.migration(&migration, queue),
            Input::Carrier(event, at) => self.carrier_event(event, at, queue),
            Input::CarrierGone => {
                queue.extend(self.core.carrier_failed("the source's carrier ended".into()));
            }
            Input::StopIsSlow => self.order_tail().await,
            Input::State(Ok(note)) => self.note(&note).await,
            Input::State(Err(why)) => {
                // The destination waits for the digests in vain; better say so.
                queue.push_back(Seen::Broken(format!("cannot compare states: {why}")));
            }
        }
    }

    fn migration(&mut self, migration: &qmp::Migration, queue: &mut VecDeque<Seen>) {
        queue.extend(self.core.migration(&migration.status, migration.error.as_deref()));
        let Some(ram) = &migration.ram else { return };
        self.rounds = self.rounds.max(ram.dirty_sync_count);
        if self.core.stage() == Stage::Copying && self.must_stop_first() {
            queue.push_back(Seen::Converged);
        } else if self.core.stage() == Stage::Copying && !self.vm_was_paused() && self.linked {
            let pass = Pass {
                number: ram.dirty_sync_count,
                remaining: ram.remaining.saturating_add(self.counters.unacknowledged_bytes),
                rate: self.counters.rate_bytes_per_second,
            };
            match self.policy.advise(pass) {
                Advice::Copy => {}
                Advice::Stop => queue.push_back(Seen::Converged),
                Advice::GiveUp => queue.push_back(Seen::Abort(format!(
                    "the guest dirties memory faster than it can be sent: {} are left at the \
                     beginning of every pass, {} a second are sent; allow a longer blackout with \
                     --blackout-budget, or calm the guest",
                    types::Bytes(pass.remaining),
                    types::Bytes(pass.rate),
                ))),
            }
        }
        self.tell_progress(ram);
    }

    fn vm_was_paused(&self) -> bool {
        self.vm.record.outgoing.as_ref().is_some_and(|o| o.was_paused)
    }

    fn tell_progress(&mut self, ram: &qmp::RamStats) {
        if self.last_progress.elapsed() < PROGRESS {
            return;
        }
        self.last_progress = Instant::now();
        let dirty = ram.dirty_pages_rate.saturating_mul(ram.page_size.unwrap_or(4096));
        let rate = self.counters.rate_bytes_per_second;
        let progress = Progress {
            remaining_bytes: ram.remaining,
            done_bytes: self.counters.done_bytes,
            total_bytes: ram.total,
            rate_bytes_per_second: rate,
            dirty_bytes_per_second: dirty,
            rounds: self.rounds,
            sent_bytes: self.counters.sent_bytes,
            // Each pass leaves the share of it that was dirtied meanwhile.
            expected_seconds: (rate > dirty).then(|| ram.remaining as f64 / (rate - dirty) as f64),
        };
        let (client, id) = (self.vm.host.client.clone(), self.id);
        self.tasks.spawn(async move {
            let _ = client.progress(id, &progress).await;
        });
        while self.tasks.try_join_next().is_some() {}
    }

    fn carrier_event(&mut self, event: CarrierEvent, at: Instant, queue: &mut VecDeque<Seen>) {
        match event {
            CarrierEvent::Held => queue.push_back(Seen::Held),
            CarrierEvent::Counters(counters) => {
                if counters.round_trip_us > 0 {
                    self.round_trip = Some(Duration::from_micros(counters.round_trip_us));
                }
                self.core.moved(counters.done_bytes, self.began.elapsed());
                self.counters = counters;
            }
            CarrierEvent::Mode { mode, why } => {
                self.mode = Some(mode);
                let patch = AttemptPatch { mode: Some(mode), ..AttemptPatch::default() };
                self.reporter.post("mode", Some(why.unwrap_or_else(|| mode.to_string())), patch);
            }
            CarrierEvent::Connected { round_trip_us } => {
                self.round_trip = Some(Duration::from_micros(round_trip_us));
                queue.extend(self.connected());
            }
            CarrierEvent::LinkLost { why } => {
                self.linked = false;
                let longest = Duration::from_secs(self.vm.host.config.outage.copy_seconds.into());
                self.core.link_lost(longest, self.began.elapsed());
                self.reporter.post("link-lost", Some(why), AttemptPatch::default());
            }
            CarrierEvent::LinkResumed { outage_ms, resent_bytes } => {
                self.linked = true;
                self.core.link_resumed(self.began.elapsed());
                let resent = types::Bytes(resent_bytes);
                let told = format!("after {outage_ms} ms; {resent} were sent again so far");
                self.reporter.post("link-resumed", Some(told), AttemptPatch::default());
            }
            CarrierEvent::Note { text } => match Note::from_text(&text) {
                Some(Note::Running) => self.running(at, queue),
                Some(Note::Refused { why }) => queue.push_back(Seen::Refused(why)),
                _ => tracing::warn!("the peer said something this agent does not know"),
            },
            CarrierEvent::Failed { reason } => queue.extend(self.core.carrier_failed(reason)),
            _ => {}
        }
    }

    fn running(&mut self, at: Instant, queue: &mut VecDeque<Seen>) {
        self.blackout = self.stopped_at.map(|stopped| at.saturating_duration_since(stopped));
        queue.extend(self.core.running());
    }

    /// What the record should know of the attempt, as known here.
    fn numbers(&self) -> AttemptPatch {
        AttemptPatch {
            mode: self.mode,
            blackout_seconds: self.blackout.map(|b| b.as_secs_f64()),
            round_trip_seconds: self.round_trip.map(|r| r.as_secs_f64()),
            rounds: Some(self.rounds),
            sent_bytes: Some(self.counters.sent_bytes),
            pages: Some(self.counters.pages),
            ..AttemptPatch::default()
        }
    }

    async fn perform(&mut self, action: Action, queue: &mut VecDeque<Seen>) -> Result<(), Seen> {
        match action {
            Action::Journal(stage) => self.journal(stage).await.map_err(Seen::NotJournalled)?,
            Action::BeginCopy => self.begin_copy().await.map_err(Seen::Broken)?,
            Action::Hold => {
                self.command(types::CarrierCommand::Hold).await.map_err(Seen::Broken)?;
            }
            Action::Unhold => {
                self.policy.again();
                self.command(types::CarrierCommand::Release).await.map_err(Seen::Broken)?;
            }
            Action::Ask => self.ask(),
            Action::Stop => self.stop(),
            Action::Tail => self.order_tail().await,
            Action::TellStopped => self.tell_stopped().await,
            Action::Watch => self.watch(),
            Action::EndCopy { reason } => self.end_copy(&reason).await,
            Action::Reassert => self.reassert(),
            Action::Resume => self.resume_vm(),
            Action::Release => self.release(queue).await,
            // Done by `finish`, when the machine has ended.
            Action::Finish => {}
            Action::Alarm(what) => {
                tracing::error!(attempt = %self.id, what, "ALARM");
                self.reporter.post("alarm", Some(what), AttemptPatch::default());
            }
        }
        Ok(())
    }

    async fn journal(&mut self, stage: Stage) -> Result<(), String> {
        if stage == Stage::Handing {
            let phase = Some(AttemptPhase::Switching);
            self.reporter.post("handing", None, AttemptPatch { phase, ..AttemptPatch::default() });
        }
        self.vm.record.source_at(stage, self.reporter.seq());
        self.vm.save_at_last().await
    }

    /// Tells that the source's part is over, then forgets the attempt.
    async fn finish(mut self, arrived: &mut mpsc::Receiver<Input>) -> Result<(), String> {
        // The carrier's last words: counters, perhaps that the VM runs.
        while let Ok(input) = arrived.try_recv() {
            if let Input::Carrier(event, at) = input {
                self.carrier_event(event, at, &mut VecDeque::new());
            }
        }
        let kept = self.core.stage() == Stage::Kept;
        let mut patch = self.numbers();
        patch.source_ended = Some(true);
        if kept {
            patch.phase = Some(AttemptPhase::Cleaning);
        }
        self.reporter.post(if kept { "kept" } else { "released" }, None, patch);
        self.reporter.flush().await;
        self.tasks.shutdown().await;
        let outgoing = self.vm.record.outgoing.clone();
        self.vm.record.source_over();
        // Not durable: it is not forgotten, and this is done again.
        self.vm.save().inspect_err(|_| self.vm.record.outgoing = outgoing)
    }
}
