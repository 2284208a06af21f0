//! What to do next about one VM: a pure decision from the journal, what QEMU
//! does and what the controller wants.

use api::body::{AttemptIntent, Press, VmIntent};
use types::{AttemptId, AttemptPhase, HostId, RunState};

use super::VmRecord;

/// What is seen of the VM's QEMU on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qemu {
    /// There is none, or its process has ended.
    Dead,
    /// Executing.
    Running,
    /// Resting, and `cont` would make it go on.
    Paused,
    /// Resting for a reason that is not ours to overrule (I/O error, panic).
    Halted,
    /// The guest has powered off; its QEMU only waits to be ended.
    Off,
}

/// Everything a decision is made from.
pub struct World<'a, I> {
    /// This host.
    pub me: &'a HostId,
    /// Its journal of the VM.
    pub record: &'a VmRecord<I>,
    /// What its QEMU does.
    pub qemu: Qemu,
    /// The VM, if the record says that it is this host's.
    pub intent: Option<&'a VmIntent>,
    /// Attempts of the VM that concern this host.
    pub attempts: &'a [AttemptIntent],
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Wait,
    /// Start a QEMU for this start generation.
    Start(u64),
    /// Execute.
    Cont,
    /// Execute although an error stopped it: somebody asked for that.
    GoOn(u64),
    /// Rest.
    Pause,
    /// Press a button.
    Press(Press),
    /// End QEMU and give everything back.
    End,
    /// Go on with the outgoing attempt in the journal.
    ResumeOutgoing,
    /// Go on with the incoming attempt in the journal.
    ResumeIncoming,
    /// Begin to send.
    BeginOutgoing(AttemptId),
    /// Begin to receive.
    BeginIncoming(AttemptId),
    /// A QEMU of ours that the record gives to somebody else: hands off.
    NotOurs,
}

/// Decides.
pub fn decide<I>(world: &World<'_, I>) -> Step {
    let record = world.record;
    if record.outgoing.is_some() {
        return Step::ResumeOutgoing;
    }
    if record.incoming.is_some() {
        return Step::ResumeIncoming;
    }
    let open = |a: &&AttemptIntent| {
        a.record.phase != AttemptPhase::Done && a.record.report.outcome.is_none()
    };
    let outgoing = world.attempts.iter().find(|a| {
        open(a) && a.record.from == *world.me && record.last_outgoing < Some(a.record.id)
    });
    let incoming = world.attempts.iter().find(|a| {
        open(a)
            && a.record.to == *world.me
            && a.record.phase == AttemptPhase::Preparing
            && a.record.abort.is_none()
            && record.last_incoming < Some(a.record.id)
    });
    if record.instance.is_some() && matches!(world.qemu, Qemu::Dead | Qemu::Off) {
        return Step::End;
    }
    // Of an earlier stay: a newer word is on its way.
    let intent = world.intent.filter(|i| record.concerns(&i.ownership));
    if let (Some(_), Some(attempt)) = (intent, outgoing) {
        return Step::BeginOutgoing(attempt.record.id);
    }
    if let Some(intent) = intent {
        return owned(world, intent);
    }
    match (incoming, &record.instance) {
        // What is left of an earlier stay must be gone first.
        (_, Some(_)) => Step::NotOurs,
        (Some(attempt), None) => Step::BeginIncoming(attempt.record.id),
        (None, None) => Step::Wait,
    }
}

/// A button that was pressed for exactly this QEMU, and that nobody acted on yet.
fn pressed<I>(world: &World<'_, I>, intent: &VmIntent) -> Option<Press> {
    let alive = world.qemu != Qemu::Dead && intent.desired != RunState::Stopped;
    intent.press.filter(|press| {
        alive
            && press.number > world.record.pressed
            && press.start_generation == world.record.start_generation
            && press.epoch == intent.ownership.epoch
    })
}

fn owned<I>(world: &World<'_, I>, intent: &VmIntent) -> Step {
    if let Some(press) = pressed(world, intent) {
        return Step::Press(press);
    }
    match (intent.desired, world.qemu) {
        (RunState::Stopped, Qemu::Dead) => Step::Wait,
        (RunState::Stopped, _) => Step::End,
        (_, Qemu::Dead) if intent.start_generation > world.record.start_generation => {
            Step::Start(intent.start_generation)
        }
        (RunState::Running, Qemu::Paused) => Step::Cont,
        (RunState::Running, Qemu::Halted) if intent.resumes > world.record.resumes => {
            Step::GoOn(intent.resumes)
        }
        (RunState::Paused, Qemu::Running) => Step::Pause,
        _ => Step::Wait,
    }
}

/// Reads QEMU's run state.
pub fn run_state(status: &str) -> Qemu {
    match status {
        "running" | "suspended" => Qemu::Running,
        "paused" | "prelaunch" | "postmigrate" | "finish-migrate" | "inmigrate" | "save-vm" => {
            Qemu::Paused
        }
        "shutdown" => Qemu::Off,
        _ => Qemu::Halted,
    }
}

#[cfg(test)]
mod tests {
    use types::{
        AttemptRecord, Epoch, Incarnation, MigrationReport, Outcome, Ownership, VmId, VmSpec,
    };

    use super::*;
    use api::body::Button;

    fn id(n: u128) -> AttemptId {
        AttemptId(uuid::Uuid::from_u128(n))
    }

    fn host(name: &str) -> HostId {
        name.parse().unwrap()
    }

    fn spec() -> VmSpec {
        let json = r#"{"name": "web01", "memory": 2097152, "machine": "pc-q35-7.2",
                       "uuid": "0190a000-0000-7000-8000-000000000001"}"#;
        serde_json::from_str(json).unwrap()
    }

    fn ownership(attempt: Option<AttemptId>) -> Ownership {
        Ownership {
            owner: host("host-a"),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            attempt,
            settled: true,
        }
    }

    fn intent(desired: RunState, generation: u64) -> VmIntent {
        let (spec, ownership, start_generation) = (spec(), ownership(None), generation);
        VmIntent { spec, ownership, desired, start_generation, resumes: 0, press: None }
    }

    fn attempt(n: u128, spoil: fn(&mut AttemptRecord)) -> AttemptIntent {
        let (from, to) = (host("host-a"), host("host-b"));
        let name = "web01".parse().unwrap();
        let mut record = AttemptRecord {
            id: id(n),
            vm: spec().uuid.unwrap(),
            from: from.clone(),
            to: to.clone(),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            secret: String::new(),
            verify: false,
            blackout_budget_ms: 300,
            resting: false,
            destination: None,
            phase: AttemptPhase::Preparing,
            abort: None,
            cancelled: false,
            report: MigrationReport::begun(id(n), name, from, to, 0),
        };
        spoil(&mut record);
        AttemptIntent {
            record,
            spec: spec(),
            ownership: ownership(Some(id(n))),
            desired: RunState::Running,
            start_generation: 1,
            resumes: 0,
        }
    }

    fn record(generation: u64) -> VmRecord {
        let vm: VmId = spec().uuid.unwrap();
        VmRecord { start_generation: generation, ..VmRecord::new(vm) }
    }

    #[test]
    fn an_owner_sees_to_what_is_desired() {
        use Qemu::{Dead, Halted, Paused, Running};
        let cases = [
            (RunState::Running, 2, Dead, Step::Start(2)),
            (RunState::Paused, 2, Dead, Step::Start(2)),
            (RunState::Running, 1, Dead, Step::Wait), // it powered off: not started again
            (RunState::Stopped, 2, Dead, Step::Wait),
            (RunState::Running, 1, Running, Step::Wait),
            (RunState::Running, 1, Paused, Step::Cont),
            (RunState::Running, 1, Halted, Step::Wait),
            (RunState::Paused, 1, Running, Step::Pause),
            (RunState::Paused, 1, Paused, Step::Wait),
            (RunState::Stopped, 1, Running, Step::End),
            (RunState::Stopped, 1, Halted, Step::End),
        ];
        for (desired, generation, qemu, step) in cases {
            let world = World {
                me: &host("host-a"),
                record: &record(1),
                qemu,
                intent: Some(&intent(desired, generation)),
                attempts: &[],
            };
            assert_eq!(decide(&world), step, "{desired} {generation} {qemu:?}");
        }
    }

    #[test]
    fn a_guest_that_powered_off_is_ended_and_one_that_failed_goes_on_once_when_asked() {
        let decide_with = |record: &VmRecord, qemu, resumes| {
            let intent = VmIntent { resumes, ..intent(RunState::Running, 1) };
            let (me, intent) = (host("host-a"), Some(&intent));
            decide(&World { me: &me, record, qemu, intent, attempts: &[] })
        };
        let mut here = record(1);
        assert_eq!(decide_with(&here, Qemu::Halted, 0), Step::Wait);
        assert_eq!(decide_with(&here, Qemu::Halted, 2), Step::GoOn(2));
        here.resumes = 2;
        assert_eq!(decide_with(&here, Qemu::Halted, 2), Step::Wait, "it failed again");
        here.instance = Some(instance());
        assert_eq!(decide_with(&here, Qemu::Off, 2), Step::End);
        assert_eq!(decide_with(&here, Qemu::Dead, 2), Step::End);
        assert_eq!(decide_with(&here, Qemu::Halted, 2), Step::Wait);
    }

    #[test]
    fn a_button_is_pressed_once_and_only_for_the_qemu_it_was_meant_for() {
        let press = |number, start_generation, epoch| Press {
            button: Button::Power,
            number,
            start_generation,
            epoch: Epoch(epoch),
        };
        for (press, pressed, qemu, acts) in [
            (press(2, 1, 1), 1, Qemu::Running, true),
            (press(2, 1, 1), 2, Qemu::Running, false), // done
            (press(2, 0, 1), 1, Qemu::Running, false), // for an earlier start
            (press(2, 1, 0), 1, Qemu::Running, false), // before it moved
            (press(2, 1, 1), 1, Qemu::Dead, false),
        ] {
            let intent = VmIntent { press: Some(press), ..intent(RunState::Running, 1) };
            let here = VmRecord { pressed, ..record(1) };
            let (me, record, intent) = (host("host-a"), &here, Some(&intent));
            let step = decide(&World { me: &me, record, qemu, intent, attempts: &[] });
            let expected = if acts { Step::Press(press) } else { Step::Wait };
            assert_eq!(step, expected, "{press:?} {pressed} {qemu:?}");
        }
    }

    fn instance() -> vmm::InstanceRecord {
        let json = serde_json::json!({
            "vm": spec().uuid, "instance": "s1", "spec": spec(), "pid": 1, "start_time": 1,
            "boot_id": "", "run_dir": "/r", "log_dir": "/l", "memory": "/m", "taps": [],
            "groups": [],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_vm_that_was_given_back_is_not_started_by_an_old_word() {
        let me = host("host-a");
        let intent = intent(RunState::Running, 2);
        let decide_with = |ended| {
            let here = VmRecord { past: ended, ..record(0) };
            let (record, qemu) = (&here, Qemu::Dead);
            decide(&World { me: &me, record, qemu, intent: Some(&intent), attempts: &[] })
        };
        assert_eq!(decide_with(None), Step::Start(2));
        assert_eq!(decide_with(Some((Incarnation(1), Epoch(1)))), Step::Wait);
        assert_eq!(decide_with(Some((Incarnation(1), Epoch(0)))), Step::Start(2));
        assert_eq!(decide_with(Some((Incarnation(0), Epoch(9)))), Step::Start(2), "restored");
    }

    #[test]
    fn attempts_are_begun_once_and_only_while_they_are_open() {
        type Spoil = fn(&mut AttemptRecord);
        let cases: [(Spoil, Step); 5] = [
            (|_| {}, Step::BeginIncoming(id(7))),
            (|r| r.abort = Some("cancelled".into()), Step::Wait),
            (|r| r.phase = AttemptPhase::Copying, Step::Wait),
            (|r| r.phase = AttemptPhase::Done, Step::Wait),
            (|r| r.report.outcome = Some(Outcome::Failed), Step::Wait),
        ];
        for (spoil, step) in cases {
            let attempts = [attempt(7, spoil)];
            let me = host("host-b");
            let mut here = record(0);
            let decide_with = |record: &VmRecord| {
                let world =
                    World { me: &me, record, qemu: Qemu::Dead, intent: None, attempts: &attempts };
                decide(&world)
            };
            assert_eq!(decide_with(&here), step);
            here.last_incoming = Some(id(7));
            assert_eq!(decide_with(&here), Step::Wait, "it was here before");
        }
    }

    #[test]
    fn a_source_begins_even_what_is_already_cancelled_because_only_it_can_end_it() {
        let me = host("host-a");
        let mut here = record(1);
        for spoil in [
            |_: &mut AttemptRecord| {},
            |r: &mut AttemptRecord| {
                r.abort = Some("cancelled".into());
            },
        ] {
            let attempts = [attempt(7, spoil)];
            let intent = intent(RunState::Running, 1);
            let decide_with = |record: &VmRecord| {
                let qemu = Qemu::Running;
                let intent = Some(&intent);
                decide(&World { me: &me, record, qemu, intent, attempts: &attempts })
            };
            here.last_outgoing = None;
            assert_eq!(decide_with(&here), Step::BeginOutgoing(id(7)));
            here.last_outgoing = Some(id(7));
            assert_eq!(decide_with(&here), Step::Wait);
        }
    }
}
