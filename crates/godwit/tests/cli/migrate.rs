//! `godwit migrate` against a controller that plays every end.

use crate::fake::{Ended, Fake, Script, at, copying, ended};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use types::{AttemptPhase, Code, MigrationReport, Outcome, Problem};

fn script(attempts: impl IntoIterator<Item = api::body::AttemptView>) -> Script {
    Script { attempts: attempts.into_iter().collect(), ..Script::default() }
}

#[tokio::test]
async fn a_move_shows_how_it_goes_and_ends_with_one_sentence() {
    let views = [
        at(AttemptPhase::Preparing),
        copying(1 << 30),
        copying(1 << 20),
        at(AttemptPhase::Switching),
        at(AttemptPhase::Cleaning),
        ended(Outcome::Completed, None),
    ];
    let fake = Fake::start(script(views)).await;
    let moved = fake.run("migrate web01 --to host-b").await;
    assert_eq!(moved.exit, 0, "{moved:?}");
    assert_eq!(
        moved.stdout,
        "web01 moved from host-a to host-b in 4.0 s; 0 rounds, 0 B sent for 2.0 GiB of memory\n"
    );
    let phases: Vec<_> =
        moved.stderr.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(phases, ["preparing", "copying", "switching", "cleaning"], "{}", moved.stderr);
    assert!(moved.stderr.contains(" 50%  1.0 GiB remaining, 100.0 MiB/s"), "{}", moved.stderr);
}

#[tokio::test]
async fn json_is_the_report_and_nothing_else() {
    let end = ended(Outcome::Completed, None);
    let fake = Fake::start(script([copying(1 << 20), end.clone()])).await;
    let moved = fake.run("migrate web01 -q -o json").await;
    assert_eq!((moved.exit, moved.stderr.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<MigrationReport>(&moved.stdout).unwrap(), end.report);
    let begun = fake.run("migrate web01 --no-wait -o json").await;
    assert_eq!(begun.exit, 0);
    assert_eq!(serde_json::from_str::<MigrationReport>(&begun.stdout).unwrap(), end.report);
}

#[tokio::test]
async fn an_end_without_a_move_has_its_own_exit_code() {
    for (outcome, exit) in [(Outcome::Failed, 1), (Outcome::Refused, 4), (Outcome::Cancelled, 6)] {
        let end = ended(outcome, Some("the cable is cut"));
        let fake = Fake::start(script([at(AttemptPhase::Preparing), end.clone()])).await;
        let stayed = fake.run("migrate web01 -q").await;
        assert_eq!((stayed.exit, stayed.stdout.as_str()), (exit, ""), "{stayed:?}");
        assert!(stayed.stderr.starts_with("error: web01 "), "{stayed:?}");
        assert!(stayed.stderr.contains("the cable is cut"), "{stayed:?}");
        let stayed = fake.run("migrate web01 -o json").await;
        let report: MigrationReport = serde_json::from_str(&stayed.stdout).unwrap();
        assert_eq!((stayed.exit, report), (exit, end.report));
    }
}

#[tokio::test]
async fn what_is_refused_is_a_result_too() {
    for (code, exit) in [(Code::NoHost, 4), (Code::MigrationUnderWay, 4), (Code::VmExists, 7)] {
        let problem = Problem::new(code, "it cannot be").remedy("make it possible");
        let fake = Fake::start(Script { refuse: Some(problem), ..Script::default() }).await;
        let refused = fake.run("migrate web01 --to host-b -o json").await;
        assert_eq!(refused.exit, exit);
        let report: serde_json::Value = serde_json::from_str(&refused.stdout).unwrap();
        assert_eq!(report["outcome"], "refused");
        assert_eq!(report["reason"], "it cannot be");
        assert_eq!((&report["vm"], &report["to"]), (&"web01".into(), &"host-b".into()));
        let message = format!("error: it cannot be [{}]\nhelp: make it possible\n", code.as_str());
        assert_eq!(refused.stderr, message);
        assert_eq!(fake.run("migrate web01").await.stdout, "");
    }
}

#[tokio::test]
async fn the_wait_is_bounded() {
    let fake = Fake::start(script([copying(1 << 30)])).await;
    let late = fake.run("migrate web01 --timeout 300ms").await;
    assert_eq!((late.exit, late.stdout.as_str()), (5, ""));
    assert!(late.stderr.contains("has not ended after 300 ms"), "{}", late.stderr);
    assert!(late.stderr.contains("godwit attempt show 01890a5d"), "{}", late.stderr);
}

#[tokio::test]
async fn no_controller_is_told_as_such() {
    let mut fake = Fake::start(Script::default()).await;
    fake.stop().await;
    let away = fake.run("migrate web01 -o json").await;
    assert_eq!((away.exit, away.stdout.as_str()), (8, ""), "{away:?}");
    assert!(away.stderr.contains("[controller-unreachable]\nhelp: check"), "{}", away.stderr);
}

fn begin(fake: &Fake, line: &str) -> (Child, BufReader<ChildStderr>) {
    let mut child = fake.command(line).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// Reads lines until one contains `part`.
async fn line_with(stderr: &mut BufReader<ChildStderr>, part: &str) -> String {
    let mut all = String::new();
    loop {
        let from = all.len();
        let read = stderr.read_line(&mut all).await.unwrap();
        assert!(read > 0, "no {part:?} in {all}");
        if all[from..].contains(part) {
            return all;
        }
    }
}

#[tokio::test]
async fn a_controller_that_restarts_meanwhile_is_waited_for() {
    let mut fake = Fake::start(script([copying(1 << 30)])).await;
    let (child, mut stderr) = begin(&fake, "migrate web01");
    line_with(&mut stderr, "copying").await;
    fake.stop().await;
    line_with(&mut stderr, "the migration goes on, waiting").await;
    fake.script().attempts = [copying(1 << 20), ended(Outcome::Completed, None)].into();
    fake.resume().await;
    line_with(&mut stderr, "the controller answers again").await;
    let moved = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!(moved.exit, 0);
    assert!(moved.stdout.starts_with("web01 moved"), "{}", moved.stdout);
}

#[tokio::test]
async fn ctrl_c_leaves_the_migration_to_itself() {
    let fake = Fake::start(script([copying(1 << 30)])).await;
    let (child, mut stderr) = begin(&fake, "migrate web01");
    line_with(&mut stderr, "copying").await;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    line_with(&mut stderr, "detached: the migration of web01 goes on").await;
    let end = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!((end.exit, end.stdout.as_str()), (5, ""));
}
