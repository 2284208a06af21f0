//! What a command takes from, and owes to, the shell around it.

use std::process::Stdio;

use crate::commands::vm;
use crate::fake::{Ended, Fake, Script, copying};
use rustix::process::{Pid, Signal, kill_process};
use types::{Problem, RunState};

#[tokio::test]
async fn a_pipe_gets_no_colours_and_may_close() {
    let fake = Fake::start(Script { attempts: [copying(1)].into(), ..Script::default() }).await;
    let mut plain = fake.command("vm ls --cert /no/such.pem");
    let plain = Ended::of(plain.env("TERM", "xterm-256color").output().await.unwrap());
    assert!(!plain.stderr.contains('\u{1b}'), "{plain:?}");
    let mut child = fake.command("completion bash").spawn().unwrap();
    drop(child.stdout.take());
    let closed = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!((closed.exit, closed.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn the_exit_code_is_the_problems() {
    for code in types::Code::ALL {
        let problem = Problem::new(*code, "it cannot be").remedy("make it possible");
        let fake = Fake::start(Script { refuse: Some(problem), ..Script::default() }).await;
        let refused = fake.run("migrate web01 -q").await;
        assert_eq!(refused.exit, i32::from(code.exit()), "{code:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_shell_that_asks_is_answered_with_names() {
    let vms = [vm(Some(RunState::Running), RunState::Running, None)].into();
    let fake = Fake::start(Script { vms, ..Script::default() }).await;
    let script = fake.run("completion bash").await;
    assert!(script.exit == 0 && script.stdout.contains("COMPLETE"), "{script:?}");
    let ask = async |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.splice(..0, ["--", "godwit"]);
        let mut command = fake.command("");
        command.args(&words).env("COMPLETE", "fish");
        Ended::of(command.output().await.unwrap()).stdout
    };
    assert!(ask("vm st").await.contains("start"));
    assert!(ask("migrate ").await.contains("web01"));
    assert!(ask("migrate web01 --to ").await.contains("host-b"));
}

#[tokio::test]
async fn ctrl_c_during_a_wait_says_what_goes_on() {
    let vms = [vm(Some(RunState::Running), RunState::Paused, None)].into();
    let fake = Fake::start(Script { vms, ..Script::default() }).await;
    let mut command = fake.command("vm pause web01");
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    fake.asked().await;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let end = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!(end.exit, 5, "{end:?}");
    assert!(end.stderr.contains("detached: web01 is still to be paused"), "{end:?}");
    assert!(end.stderr.contains("`godwit vm show web01 --watch`"), "{end:?}");
}
