//! The other commands, as they are typed.

use std::process::Stdio;

use crate::fake::{Ended, Fake, Script};
use api::body::{HistoryEvent, VmView};
use tokio::io::AsyncWriteExt;
use types::{Epoch, Incarnation, Ownership, RunState};

pub(crate) fn vm(state: Option<RunState>, desired: RunState, error: Option<&str>) -> VmView {
    VmView {
        spec: toml::from_str("name = \"web01\"\nmemory = \"2GiB\"").unwrap(),
        ownership: Some(Ownership {
            owner: "host-a".parse().unwrap(),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            attempt: None,
            settled: true,
        }),
        desired,
        start_generation: 1,
        state,
        halted: None,
        error: error.map(str::to_owned),
    }
}

#[tokio::test]
async fn start_waits_until_the_vm_runs() {
    use RunState::{Running, Stopped};
    let views = [
        vm(Some(Stopped), Stopped, Some("an old story")),
        vm(Some(Stopped), Running, Some("an old story")),
        vm(Some(Stopped), Running, None),
        vm(Some(Running), Running, None),
    ];
    let fake = Fake::start(Script { vms: views.into(), ..Script::default() }).await;
    let started = fake.run("vm start web01").await;
    assert_eq!((started.exit, started.stdout.as_str()), (0, "web01 is running on host-a\n"));

    let views = [
        vm(None, Stopped, None),
        vm(None, Running, None),
        vm(Some(Stopped), Running, Some("no kernel")),
    ];
    fake.script().vms = views.into();
    let failed = fake.run("vm start web01").await;
    assert_eq!((failed.exit, failed.stderr.as_str()), (1, "error: web01: no kernel\n"));

    fake.script().vms = [vm(Some(Stopped), Running, None)].into();
    let asked = fake.run("vm start web01 --no-wait").await;
    assert_eq!((asked.exit, asked.stdout.as_str()), (0, "web01 is asked to be running\n"));
    let late = fake.run("vm start web01 --timeout 200ms").await;
    assert_eq!(late.exit, 5);
}

#[tokio::test]
async fn a_guest_is_asked_and_waited_for() {
    use RunState::{Running, Stopped};
    let running = || vm(Some(Running), Running, None);
    let fake = Fake::start(Script { vms: [running()].into(), ..Script::default() }).await;
    for word in ["stop", "reboot"] {
        let deaf = fake.run(&format!("vm {word} web01 --timeout 200ms")).await;
        assert_eq!(deaf.exit, 5, "{deaf:?}");
        assert!(deaf.stderr.contains(&format!("`godwit vm {word} web01 --hard`")), "{deaf:?}");
    }
    fake.script().vms = [running(), running(), vm(Some(Stopped), Stopped, None)].into();
    let off = fake.run("vm stop web01").await;
    assert_eq!((off.exit, off.stdout.as_str()), (0, "web01 is stopped\n"), "{off:?}");
    let again = VmView { start_generation: 2, ..running() };
    fake.script().vms = [running(), running(), vm(Some(Stopped), Running, None), again].into();
    let booted = fake.run("vm reboot web01").await;
    assert_eq!((booted.exit, booted.stdout.as_str()), (0, "web01 is running on host-a\n"));
    fake.script().vms = [running()].into();
    let reset = fake.run("vm reboot web01 --hard").await;
    assert_eq!((reset.exit, reset.stdout.as_str()), (0, "web01 begins anew\n"));
}

#[tokio::test]
async fn wrong_specs_are_told_where_they_are_wrong() {
    let fake = Fake::start(Script::default()).await;
    let create = async |text: &str| {
        let mut child = fake.command("vm create -f -").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
        Ended::of(child.wait_with_output().await.unwrap())
    };
    let wrong = create("name = \"a\"\nmemroy = \"2MiB\"\n").await;
    assert_eq!(wrong.exit, 2);
    assert!(wrong.stderr.contains("line 2") && wrong.stderr.contains("memroy"), "{wrong:?}");
    let wrong = create("name = \"a\"\nmemory = \"3MiB\"\n").await;
    assert_eq!(
        (wrong.exit, wrong.stderr.as_str()),
        (2, "error: -: line 2: memory: must be a multiple of 2 MiB, and at least that\n")
    );
}

#[tokio::test]
async fn history_is_read_to_its_end() {
    let event = |seq: u64| HistoryEvent {
        seq,
        time: "2030-01-01T00:00:00Z".to_owned(),
        vm: Some("web01".parse().unwrap()),
        attempt: None,
        actor: "host-a".to_owned(),
        event: "started".to_owned(),
        detail: Some("\u{1b}[31mred".to_owned()),
    };
    let history: Vec<_> = (1..=5).map(event).collect();
    let fake = Fake::start(Script { history: history.clone(), ..Script::default() }).await;
    let read = async |line: &str| {
        let ended = fake.run(line).await;
        assert_eq!(ended.exit, 0, "{ended:?}");
        serde_json::from_str::<Vec<HistoryEvent>>(&ended.stdout).unwrap()
    };
    assert_eq!(read("audit history -o json").await, history);
    assert_eq!(read("audit history --after 2 -o json").await, history[2..]);
    assert_eq!(read("audit history --limit 3 --vm web01 -o json").await, history[..3]);
    let table = fake.run("audit history --limit 1").await.stdout;
    assert!(table.ends_with("web01  -        host-a  started  ?[31mred\n"), "{table}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let fake = Fake::start(Script::default()).await;
    let mut command = fake.command("host ls");
    command.env_remove("GODWIT_CONTROLLER");
    let ended = Ended::of(command.output().await.unwrap());
    assert_eq!(ended.exit, 2);
    assert!(ended.stderr.contains("help: set GODWIT_CONTROLLER"), "{}", ended.stderr);
    let ended = fake.run("host ls --cert /no/such.pem").await;
    assert_eq!(ended.exit, 2);
    assert!(ended.stderr.starts_with("error: /no/such.pem: "), "{}", ended.stderr);
    assert_eq!(fake.run("vm start ../etc").await.exit, 2);
    assert_eq!(fake.run("fly").await.exit, 2);
}

#[tokio::test]
async fn a_carrier_says_what_is_wrong_with_its_configuration() {
    let fake = Fake::start(Script::default()).await;
    let ended = fake.run("carrier").await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("error: "), "{}", ended.stderr);
}

#[tokio::test]
async fn wrong_configurations_are_told_where_they_are_wrong() {
    let fake = Fake::start(Script::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let line = format!("agent --config {}", file.display());
    std::fs::write(&file, "host = \"host-a\"\nadress = \"10.0.0.1\"\n").unwrap();
    let wrong = fake.run(&line).await;
    assert_eq!(wrong.exit, 2);
    for part in ["agent.toml", "line 2", "adress"] {
        assert!(wrong.stderr.contains(part), "{}", wrong.stderr);
    }
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let large = fake.run(&line).await;
    assert!(large.exit == 2 && large.stderr.contains("larger than 1 MiB"), "{large:?}");
}
