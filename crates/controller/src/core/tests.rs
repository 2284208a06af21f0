//! Tables of single decisions.

use api::body::{AttemptEvent, AttemptPatch, Ended, OwnershipRequest, VmFacts};
use types::{
    AttemptId, AttemptPhase, Code, Epoch, Incarnation, Mode, Outcome, Ownership, PageCounts,
    RunState, Side, VmId,
};
use uuid::Uuid;

use super::*;

const VM: VmId = VmId(Uuid::from_u128(7));
const ID: AttemptId = AttemptId(Uuid::from_u128(9));
const FIRST: (Incarnation, Epoch) = (Incarnation(1), Epoch(0));

fn vm(desired: RunState) -> Vm {
    let spec = serde_json::from_str(r#"{ "name": "web01", "memory": 2097152 }"#).unwrap();
    Vm { start_generation: 3, ..Vm::new(spec, desired) }
}

fn own() -> Ownership {
    Ownership {
        owner: "host-a".parse().unwrap(),
        epoch: Epoch(5),
        incarnation: Incarnation(1),
        attempt: None,
        settled: true,
    }
}

/// A migration from host-a to host-b that has only begun.
fn begun() -> (Ownership, Attempt) {
    let mut own = own();
    let request = Request {
        id: ID,
        vm: VM,
        to: "host-b".parse().unwrap(),
        secret: "00".into(),
        verify: true,
        blackout_budget_ms: 300,
        resting: false,
        user: "admin".into(),
        now_ms: 1000,
    };
    let (attempt, notes) = migrate(&mut own, &vm(RunState::Running), request).unwrap();
    assert_eq!(notes[0].detail.as_deref(), Some("host-a to host-b, epoch 5"));
    (own, attempt)
}

/// What a host said before it knew of its ownership.
fn stale(state: RunState, generation: u64) -> Observed {
    Observed { facts: facts(state, generation), informed: false, owning: false }
}

fn request(epoch: u64) -> OwnershipRequest {
    OwnershipRequest { attempt: ID, epoch: Epoch(epoch), incarnation: Incarnation(1) }
}

fn said(side: Side, seq: u64, patch: AttemptPatch) -> AttemptEvent {
    AttemptEvent { side, seq, event: "said".into(), detail: None, patch }
}

fn facts(state: RunState, generation: u64) -> VmFacts {
    VmFacts {
        vm: VM,
        state,
        start_generation: generation,
        machine: None,
        halted: None,
        ended: None,
        error: None,
        blockers: Vec::new(),
        ownership: None,
        spec: None,
        moving: false,
    }
}

#[test]
fn a_request_about_something_else_is_refused() {
    let cases: [(&str, VmId, OwnershipRequest, Code); 4] = [
        ("host-b", VmId(Uuid::nil()), request(5), Code::InvalidRequest),
        (
            "host-b",
            VM,
            OwnershipRequest { attempt: AttemptId(Uuid::nil()), ..request(5) },
            Code::InvalidRequest,
        ),
        (
            "host-b",
            VM,
            OwnershipRequest { incarnation: Incarnation(2), ..request(5) },
            Code::Conflict,
        ),
        ("host-a", VM, request(5), Code::Conflict),
    ];
    for (host, vm, request, code) in cases {
        let (mut own, mut attempt) = begun();
        let host = host.parse().unwrap();
        let caller = Caller { host: &host, vm, request: &request };
        assert_eq!(claim(&mut own, &mut attempt, caller).unwrap_err().code, code, "{request:?}");
        assert_eq!((own, attempt), begun());
    }
}

#[test]
fn a_record_of_another_incarnation_is_not_claimed() {
    let (mut own, mut attempt) = begun();
    attempt.record.incarnation = Incarnation(0);
    let host = "host-b".parse().unwrap();
    let caller = Caller { host: &host, vm: VM, request: &request(5) };
    assert_eq!(claim(&mut own, &mut attempt, caller).unwrap_err().code, Code::Conflict);
}

#[test]
fn whichever_comes_last_makes_it_done() {
    let ended = || AttemptPatch { source_ended: Some(true), ..AttemptPatch::default() };
    let (a, b) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
    for source_first in [true, false] {
        let (mut own, mut attempt) = begun();
        let claimed = Caller { host: &b, vm: VM, request: &request(5) };
        claim(&mut own, &mut attempt, claimed).unwrap();
        let settled = Caller { host: &b, vm: VM, request: &request(6) };
        let mut notes = Vec::new();
        for turn in [source_first, !source_first] {
            assert_ne!(attempt.record.phase, AttemptPhase::Done);
            notes = if turn {
                event(&own, &mut attempt, &a, &said(Side::Source, 1, ended()), 3500).unwrap()
            } else {
                settle(&mut own, &mut attempt, settled, 3500).unwrap()
            };
        }
        assert_eq!(attempt.record.phase, AttemptPhase::Done);
        assert_eq!(attempt.record.report.total_seconds, Some(2.5));
        assert_eq!(notes.last().unwrap(), &Note::by("controller", "done").detail("completed"));
        // What comes later is history only.
        let late = AttemptPatch { rounds: Some(99), ..AttemptPatch::default() };
        let notes = event(&own, &mut attempt, &a, &said(Side::Source, 2, late), 9000).unwrap();
        assert_eq!((notes.len(), attempt.record.report.rounds), (1, 0));
    }
}

#[test]
fn patches_are_merged_by_their_kind() {
    let (own, mut attempt) = begun();
    let (a, b) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
    let pages = |raw, zero| Some(PageCounts { raw, zero, ..PageCounts::default() });
    let first = AttemptPatch {
        phase: Some(AttemptPhase::Switching),
        mode: Some(Mode::Direct),
        rounds: Some(4),
        sent_bytes: Some(100),
        pages: pages(7, 1),
        blackout_seconds: Some(0.2),
        destination: Some("evil:1".into()),
        ..AttemptPatch::default()
    };
    event(&own, &mut attempt, &a, &said(Side::Source, 2, first), 0).unwrap();
    let second = AttemptPatch {
        phase: Some(AttemptPhase::Copying),
        rounds: Some(3),
        sent_bytes: Some(90),
        pages: pages(6, 2),
        blackout_seconds: Some(0.1),
        round_trip_seconds: Some(f64::NAN),
        state_equal: Some(true),
        abort: Some("disk\nfull".into()),
        ..AttemptPatch::default()
    };
    event(&own, &mut attempt, &a, &said(Side::Source, 3, second), 0).unwrap();
    let address = AttemptPatch {
        destination: Some("10.0.0.2:7".into()),
        abort: Some("later".into()),
        source_ended: Some(true),
        ..AttemptPatch::default()
    };
    event(&own, &mut attempt, &b, &said(Side::Destination, 1, address), 0).unwrap();
    let stale = AttemptPatch { rounds: Some(50), ..AttemptPatch::default() };
    assert_eq!(event(&own, &mut attempt, &a, &said(Side::Source, 3, stale), 0), Ok(Vec::new()));
    let (record, report) = (&attempt.record, &attempt.record.report);
    assert_eq!(record.phase, AttemptPhase::Switching);
    assert_eq!((report.rounds, report.sent_bytes, report.mode), (4, 100, Some(Mode::Direct)));
    assert_eq!(Some(report.pages), pages(7, 2));
    assert_eq!((report.blackout_seconds, report.round_trip_seconds), (Some(0.1), None));
    assert_eq!(report.state_equal, Some(true));
    assert_eq!(record.abort.as_deref(), Some("diskfull"));
    assert_eq!(record.destination.as_deref(), Some("10.0.0.2:7"));
    assert!(!attempt.source_ended && !record.cancelled);
}

#[test]
fn an_abort_after_the_claim_is_ignored() {
    let (mut own, mut attempt) = begun();
    let b = "host-b".parse().unwrap();
    let caller = Caller { host: &b, vm: VM, request: &request(5) };
    claim(&mut own, &mut attempt, caller).unwrap();
    let patch = AttemptPatch { abort: Some("too late".into()), ..AttemptPatch::default() };
    event(&own, &mut attempt, &b, &said(Side::Destination, 1, patch), 0).unwrap();
    assert_eq!(attempt.record.abort, None);
    assert_eq!(cancel(&own, &mut attempt, "admin").unwrap_err().code, Code::TooLate);
    // Returned, it ends as a failure for that reason.
    let back = Caller { host: &b, vm: VM, request: &request(6) };
    give_back(&mut own, &mut attempt, back).unwrap();
    assert!(!own.settled);
    let a = "host-a".parse().unwrap();
    let kept = Caller { host: &a, vm: VM, request: &request(7) };
    reassert(&mut own, &mut attempt, kept, 0).unwrap();
    let report = &attempt.record.report;
    assert_eq!(report.outcome, Some(Outcome::Failed));
    assert_eq!(report.reason.as_deref(), Some("destination gave it back"));
    assert_eq!((own.epoch, own.settled, own.attempt), (Epoch(8), true, None));
}

#[test]
fn an_event_is_one_word() {
    let (own, attempt) = begun();
    let a = "host-a".parse().unwrap();
    for word in ["", "Two words", "x_y", "ä", &"x".repeat(65)] {
        let event_ =
            AttemptEvent { event: word.into(), ..said(Side::Source, 1, AttemptPatch::default()) };
        let code = event(&own, &mut attempt.clone(), &a, &event_, 0).unwrap_err().code;
        assert_eq!(code, Code::InvalidRequest, "{word}");
    }
    let long = AttemptEvent {
        detail: Some("y".repeat(100_000)),
        ..said(Side::Source, 1, AttemptPatch::default())
    };
    let notes = event(&own, &mut attempt.clone(), &a, &long, 0).unwrap();
    assert!(notes[0].detail.as_ref().unwrap().len() <= 2000);
}

#[test]
fn only_a_finished_start_that_ended_by_itself_is_a_power_off() {
    let error = VmFacts { error: Some("e".into()), ..facts(RunState::Stopped, 3) };
    for (desired, facts, migrating, off) in [
        (RunState::Running, facts(RunState::Stopped, 3), false, true),
        (RunState::Running, facts(RunState::Stopped, 2), false, false),
        (RunState::Running, facts(RunState::Paused, 3), false, false),
        (RunState::Running, facts(RunState::Stopped, 3), true, false),
        (RunState::Running, error, false, false),
        (RunState::Stopped, facts(RunState::Stopped, 3), false, false),
        (RunState::Paused, facts(RunState::Stopped, 3), false, false),
    ] {
        let mut vm = vm(desired);
        let own = Ownership { attempt: migrating.then_some(ID), ..own() };
        let stale = Observed { facts, informed: false, owning: false };
        assert_eq!(powered_off(&mut vm, &own, &stale), [], "said before it was the owner");
        let seen = Observed { owning: true, ..stale };
        assert_eq!(powered_off(&mut vm, &own, &seen).len(), usize::from(off), "{seen:?}");
        assert_eq!(vm.desired == RunState::Stopped, off || desired == RunState::Stopped);
    }
}

#[test]
fn the_history_tells_how_a_qemu_ended() {
    for (ended, event) in [
        (None, "powered-off"),
        (Some(Ended::PoweredOff), "powered-off"),
        (Some(Ended::Died), "qemu-died"),
    ] {
        let mut vm = vm(RunState::Running);
        let facts = VmFacts { ended, ..facts(RunState::Stopped, 3) };
        let seen = Observed { facts, informed: true, owning: true };
        assert_eq!(powered_off(&mut vm, &own(), &seen)[0].event, event);
        assert_eq!(vm.desired, RunState::Stopped);
    }
}

#[test]
fn a_guest_that_powers_off_ends_its_move_or_is_ended_where_it_went() {
    let patch = |abort: Option<&str>| AttemptPatch {
        powered_off: Some(true),
        abort: abort.map(str::to_owned),
        ..AttemptPatch::default()
    };
    let (a, b) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
    let (mut own, mut attempt) = begun();
    let off = said(Side::Source, 1, patch(Some("the guest powered off")));
    event(&own, &mut attempt, &a, &off, 0).unwrap();
    let late = Caller { host: &b, vm: VM, request: &request(5) };
    assert_eq!(claim(&mut own, &mut attempt, late).unwrap_err().code, Code::Conflict);
    let kept = Caller { host: &a, vm: VM, request: &request(5) };
    reassert(&mut own, &mut attempt, kept, 0).unwrap();
    let report = &attempt.record.report;
    assert_eq!(report.outcome, Some(Outcome::Cancelled));
    assert_eq!(report.reason.as_deref(), Some("the guest powered off"));

    let mut vm = vm(RunState::Running);
    assert_eq!(powered_off_in_flight(&mut vm, &a)[0].event, "powered-off");
    assert_eq!(vm.desired, RunState::Stopped);
    assert_eq!(powered_off_in_flight(&mut vm, &a), []);
}

#[test]
fn a_rest_is_told_once_and_a_resume_of_it_counts() {
    let seen = |halted: Option<&str>| {
        let halted = halted.map(str::to_owned);
        let facts = VmFacts { halted, ..facts(RunState::Paused, 3) };
        Observed { facts, informed: true, owning: true }
    };
    let mut vm = vm(RunState::Running);
    assert_eq!(halted(&mut vm, &own(), &seen(None)), []);
    let notes = halted(&mut vm, &own(), &seen(Some("io-error")));
    assert_eq!((notes[0].event.as_str(), notes[0].detail.as_deref()), ("halted", Some("io-error")));
    assert_eq!(halted(&mut vm, &own(), &seen(Some("io-error"))), []);
    let stale = Observed { owning: false, ..seen(None) };
    assert_eq!(halted(&mut vm, &own(), &stale), [], "said before it was the owner");
    let notes = resume(&mut vm, Some(&own()), Some(&seen(Some("io-error"))), "admin").unwrap();
    assert_eq!((notes[0].event.as_str(), vm.resumes), ("vm-resumed", 1));
    assert_eq!(halted(&mut vm, &own(), &seen(None))[0].event, "goes-on");
    assert_eq!(resume(&mut vm, Some(&own()), Some(&seen(None)), "admin").unwrap(), []);
    assert_eq!(vm.resumes, 1);
}

#[test]
fn a_machine_is_fixed_once() {
    for (spec, seen, after) in [
        ("q35", Some("pc-q35-7.2"), "pc-q35-7.2"),
        ("pc", Some("pc-i440fx-10.0"), "pc-i440fx-10.0"),
        ("pc-q35-7.2", Some("pc-q35-10.0"), "pc-q35-7.2"),
        ("q35", Some("q35"), "q35"),
        ("q35", Some("x,y-7.2"), "q35"),
        ("q35", None, "q35"),
    ] {
        let mut vm = vm(RunState::Running);
        vm.spec.machine = spec.into();
        let said = VmFacts { machine: seen.map(Into::into), ..facts(RunState::Running, 3) };
        let notes = machine_seen(&mut vm, &own(), &said);
        assert_eq!(vm.spec.machine, after);
        assert_eq!(notes.len(), usize::from(spec != after));
    }
}

#[test]
fn a_vm_starts_elsewhere_only_when_it_is_surely_stopped() {
    use RunState::{Paused, Running, Stopped};
    let seen = |state, generation| Some(Observed { owning: true, ..stale(state, generation) });
    let earlier = |state, generation| Some(stale(state, generation));
    for (desired, seen, on, expected) in [
        (Stopped, None, "host-a", Ok((4, 5))),
        (Stopped, None, "host-b", Err(Code::VmNotStopped)),
        (Stopped, seen(Running, 3), "host-b", Err(Code::VmNotStopped)),
        (Stopped, seen(Stopped, 2), "host-b", Err(Code::VmNotStopped)),
        (Stopped, seen(Stopped, 3), "host-b", Ok((4, 6))),
        (Running, seen(Running, 3), "host-a", Ok((3, 5))),
        (Running, seen(Running, 3), "host-b", Err(Code::VmNotStopped)),
        (Stopped, earlier(Stopped, 3), "host-b", Err(Code::VmNotStopped)),
        (Running, seen(Stopped, 3), "host-a", Ok((4, 5))),
        (Running, earlier(Stopped, 3), "host-a", Ok((4, 5))),
        (Running, earlier(Stopped, 3), "host-b", Err(Code::VmNotStopped)),
        (Paused, seen(Paused, 3), "host-a", Err(Code::VmNotStopped)),
    ] {
        let (mut vm, mut own) = (vm(desired), Some(own()));
        let on = on.parse().unwrap();
        let answer = start(&mut vm, &mut own, seen.as_ref(), &on, FIRST, "admin");
        let epoch = own.unwrap().epoch.0;
        let answer = answer.map(|_| (vm.start_generation, epoch)).map_err(|p| p.code);
        assert_eq!(answer, expected, "{desired:?} {seen:?} {on}");
    }
}

#[test]
fn a_first_start_goes_on_after_the_epochs_of_the_past() {
    for past in [0, 7] {
        let (mut vm, mut own) = (vm(RunState::Stopped), None);
        let (on, first) = ("host-b".parse().unwrap(), (Incarnation(1), Epoch(past)));
        start(&mut vm, &mut own, None, &on, first, "admin").unwrap();
        assert_eq!(own.unwrap().epoch, Epoch(past + 1));
    }
}

#[test]
fn a_vm_is_removed_only_when_it_is_surely_stopped() {
    use RunState::{Running, Stopped};
    for (desired, seen, removed) in [
        (Stopped, None, false),
        (Stopped, Some((Stopped, 3, false)), true),
        (Stopped, Some((Running, 3, true)), false),
        (Stopped, Some((Stopped, 2, false)), false),
        // The start that was taken back never happened.
        (Stopped, Some((Stopped, 2, true)), true),
        (Running, Some((Stopped, 3, true)), false),
    ] {
        let observed = seen.map(|(state, generation, informed)| Observed {
            facts: facts(state, generation),
            informed,
            owning: true,
        });
        let answer = removable(&vm(desired), Some(&own()), observed.as_ref());
        assert_eq!(answer.is_ok(), removed, "{desired:?} {seen:?}");
    }
    let earlier = Observed { informed: true, ..stale(Stopped, 3) };
    assert!(removable(&vm(Stopped), Some(&own()), Some(&earlier)).is_err());
    assert!(removable(&vm(Stopped), None, None).is_ok());
    let migrating = Ownership { attempt: Some(ID), ..own() };
    let code = removable(&vm(Stopped), Some(&migrating), None).unwrap_err().code;
    assert_eq!(code, Code::MigrationUnderWay);
}
