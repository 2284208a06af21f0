//! How a migration ended, in words and exit codes.

use serde::Serialize;
use types::{
    AttemptId, Bytes, Code, HostId, MigrationReport, Mode, Outcome, PageCounts, Problem, VmName,
};

use crate::failure::{CANCELLED, FAILED, Failure, REFUSED};
use crate::span;

/// A completed migration in a sentence or two.
pub(crate) fn sentence(report: &MigrationReport) -> String {
    let mut text = format!("{} moved from {} to {}", report.vm, report.from, report.to);
    if let Some(seconds) = report.total_seconds {
        text += &format!(" in {}", span::show(seconds));
    }
    if let Some(seconds) = report.blackout_seconds {
        text += &format!("; blackout {}", span::show(seconds));
    }
    if let Some(seconds) = report.round_trip_seconds {
        text += &format!(" (round trip {:.1} ms)", seconds * 1000.0);
    }
    let rounds = if report.rounds == 1 { "round" } else { "rounds" };
    text += &format!(
        "; {} {rounds}, {} sent for {} of memory",
        report.rounds,
        Bytes(report.sent_bytes),
        Bytes(report.memory_bytes)
    );
    if let Some(mode) = report.mode {
        text += &format!(", mode {mode}");
    }
    match report.state_equal {
        Some(true) => text += "; memory and registers were equal at the switchover",
        Some(false) => text += "; MEMORY OR REGISTERS DIFFERED at the switchover",
        None => {}
    }
    text + "\n"
}

/// Why a migration did not move its VM.
pub(crate) fn failure(report: &MigrationReport) -> Failure {
    let MigrationReport { vm, from, to, .. } = report;
    let reason = report.reason.as_deref().unwrap_or("no reason is recorded");
    match report.outcome {
        Some(Outcome::Cancelled) => {
            Failure::new(CANCELLED, format!("{vm} stays on {from}: {reason}"))
        }
        Some(Outcome::Refused) => Failure::new(REFUSED, format!("{vm} was not moved: {reason}")),
        _ => {
            Failure::new(FAILED, format!("{vm} did not move to {to} and stays on {from}: {reason}"))
                .help(format!("`godwit audit history --vm {vm}` tells what happened"))
        }
    }
}

/// A migration that was not begun, with the fields of a [`MigrationReport`].
#[derive(Debug, Serialize)]
pub(crate) struct Refusal<'a> {
    attempt: Option<AttemptId>,
    vm: &'a VmName,
    from: Option<HostId>,
    to: Option<&'a HostId>,
    mode: Option<Mode>,
    outcome: Outcome,
    reason: &'a str,
    code: Code,
    remedy: Option<&'a str>,
    total_seconds: Option<f64>,
    blackout_seconds: Option<f64>,
    round_trip_seconds: Option<f64>,
    rounds: u64,
    memory_bytes: u64,
    sent_bytes: u64,
    pages: PageCounts,
    state_equal: Option<bool>,
}

impl<'a> Refusal<'a> {
    pub(crate) fn new(vm: &'a VmName, to: Option<&'a HostId>, problem: &'a Problem) -> Self {
        Self {
            attempt: None,
            vm,
            from: None,
            to,
            mode: None,
            outcome: Outcome::Refused,
            reason: &problem.detail,
            code: problem.code,
            remedy: problem.remedy.as_deref(),
            total_seconds: None,
            blackout_seconds: None,
            round_trip_seconds: None,
            rounds: 0,
            memory_bytes: 0,
            sent_bytes: 0,
            pages: PageCounts::default(),
            state_equal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> MigrationReport {
        let id: AttemptId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let (vm, from, to) = ("web01", "host-a", "host-b");
        let (vm, from, to) = (vm.parse().unwrap(), from.parse().unwrap(), to.parse().unwrap());
        MigrationReport::begun(id, vm, from, to, 2 << 30)
    }

    #[test]
    fn a_move_is_told_in_a_sentence() {
        let mut moved = report();
        moved.outcome = Some(Outcome::Completed);
        moved.mode = Some(Mode::Direct);
        moved.total_seconds = Some(12.34);
        moved.blackout_seconds = Some(0.0853);
        moved.round_trip_seconds = Some(0.000_42);
        moved.rounds = 3;
        moved.sent_bytes = 3 << 29;
        moved.state_equal = Some(true);
        assert_eq!(
            sentence(&moved),
            "web01 moved from host-a to host-b in 12 s; blackout 85 ms (round trip 0.4 ms); \
             3 rounds, 1.5 GiB sent for 2.0 GiB of memory, mode direct; \
             memory and registers were equal at the switchover\n"
        );
    }

    #[test]
    fn every_outcome_has_its_exit_code() {
        for (outcome, exit) in
            [(Outcome::Failed, 1), (Outcome::Refused, 4), (Outcome::Cancelled, 6)]
        {
            let mut ended = report();
            ended.outcome = Some(outcome);
            ended.reason = Some("the cable is cut".into());
            let failure = failure(&ended);
            assert_eq!(failure.exit, exit);
            assert!(failure.message.contains("the cable is cut"));
        }
    }

    #[test]
    fn a_refusal_has_every_field_of_a_report() {
        let problem = Problem::new(Code::NoHost, "no host can take web01");
        let vm = "web01".parse().unwrap();
        let refusal = serde_json::to_value(Refusal::new(&vm, None, &problem)).unwrap();
        let whole = serde_json::to_value(report()).unwrap();
        for field in whole.as_object().unwrap().keys() {
            assert!(refusal.get(field).is_some(), "{field}");
        }
        assert_eq!(refusal["outcome"], "refused");
        assert_eq!(refusal["code"], "no-host");
    }
}
