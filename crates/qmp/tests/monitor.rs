//! The client against a scripted monitor and against QEMU itself.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;
use std::time::Duration;

use qmp::{Client, Event, Features, QmpError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

const LIMIT: Duration = Duration::from_secs(5);

/// A monitor that answers each command by `script` and lines it is told to say before.
async fn scripted(script: fn(&str) -> Vec<Value>) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        writer.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n").await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let command: Value = serde_json::from_str(&line).unwrap();
            for mut said in script(command["execute"].as_str().unwrap()) {
                if said.get("event").is_none() && said.get("id").is_none() {
                    said["id"] = command["id"].clone();
                }
                if said.get("close").is_some() {
                    return;
                }
                writer.write_all(format!("{said}\r\n").as_bytes()).await.unwrap();
            }
        }
    });
    (dir, path)
}

#[tokio::test]
async fn answers_errors_events_and_the_end() {
    let (_dir, path) = scripted(|command| match command {
        "query-status" => vec![
            json!({ "event": "STOP" }),
            json!({ "return": { "status": "a-state-of-tomorrow", "running": false } }),
        ],
        "cont" => vec![json!({ "error": { "class": "GenericError", "desc": "no lock" } })],
        "quit" => vec![json!({ "close": true })],
        "migrate_cancel" => vec![],
        _ => vec![json!({ "return": {} })],
    })
    .await;
    let (client, mut events) = Client::connect(&path, LIMIT).await.unwrap();
    assert_eq!(client.status().await.unwrap().status, "a-state-of-tomorrow");
    assert_eq!(events.next().await.unwrap().name(), "STOP");
    match client.cont().await.unwrap_err() {
        QmpError::Refused { description, .. } => assert_eq!(description, "no lock"),
        other => panic!("{other}"),
    }
    let limit = Duration::from_millis(50);
    let late = client.execute_within("migrate_cancel", Value::Null, limit).await.unwrap_err();
    assert!(matches!(late, QmpError::Late { .. }), "{late}");
    let (a, b) = tokio::join!(client.stop(), client.status());
    a.unwrap();
    b.unwrap();
    assert!(client.quit().await.unwrap_err().is_disconnected());
    assert!(client.status().await.unwrap_err().is_disconnected());
    assert_eq!(events.next().await.unwrap().name(), "STOP");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn missed_events_leave_a_gap() {
    let (_dir, path) = scripted(|command| match command {
        "stop" => {
            let mut said = vec![json!({ "event": "MIGRATION_PASS" }); 1000];
            said.push(json!({ "return": {} }));
            said
        }
        _ => vec![json!({ "return": {} })],
    })
    .await;
    let (client, mut events) = Client::connect(&path, LIMIT).await.unwrap();
    client.stop().await.unwrap();
    match events.next().await.unwrap() {
        Event::Gap(missed) => assert!(missed >= 700, "{missed}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(events.next().await.unwrap().name(), "MIGRATION_PASS");
}

/// Whoever stops waiting takes no place and spoils nobody's command.
#[tokio::test]
async fn commands_that_were_given_up_leave_nothing_behind() {
    let (_dir, path) = scripted(|command| match command {
        "migrate_cancel" => vec![],
        _ => vec![json!({ "return": { "status": "running" } })],
    })
    .await;
    let (client, _events) = Client::connect(&path, LIMIT).await.unwrap();
    for _ in 0..200 {
        tokio::select! {
            biased;
            _ = client.migrate_cancel() => panic!("there is no answer"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(client.status().await.unwrap().status, "running");
    // So many at once are too many; the connection is none the worse.
    let mut many: Vec<_> = (0..64).map(|_| Box::pin(client.migrate_cancel())).collect();
    for one in &mut many {
        assert!(looked_at(one.as_mut()).await.is_none());
    }
    let busy = client.status().await.unwrap_err();
    assert!(matches!(busy, QmpError::Busy { .. }) && !busy.is_disconnected(), "{busy}");
    drop(many);
    assert_eq!(client.status().await.unwrap().status, "running");
}

/// Looks once whether a future is done.
async fn looked_at<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn odd_answers_do_not_end_the_connection_and_no_qmp_does() {
    let (_dir, path) = scripted(|command| match command {
        "query-status" => vec![json!({ "return": [1, 2, 3] })],
        "query-migrate" => vec![
            // Of a command that nobody waits for any more, and of a future QEMU.
            json!({ "return": {}, "id": 4711 }),
            json!({ "return": { "status": "tomorrow", "ram": { "mood": "good" }, "new": 1 } }),
        ],
        "stop" => vec![json!({ "error": "a text" })],
        "cont" => vec![json!({ "event": "x".repeat(17 << 20) })],
        _ => vec![json!({ "return": {} })],
    })
    .await;
    let (client, mut events) = Client::connect(&path, LIMIT).await.unwrap();
    let odd = client.status().await.unwrap_err();
    assert!(matches!(odd, QmpError::Unexpected { .. }) && !odd.is_disconnected(), "{odd}");
    let migration = client.query_migrate().await.unwrap();
    assert_eq!(migration.status, "tomorrow");
    assert_eq!(migration.ram.unwrap().remaining, 0);
    assert!(matches!(client.stop().await.unwrap_err(), QmpError::Refused { .. }));
    assert!(client.cont().await.unwrap_err().is_disconnected());
    assert_eq!(events.next().await, None);
}

/// Answers find their command, in whatever order they come.
#[tokio::test]
async fn answers_come_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        writer.write_all(b"{\"QMP\": {}}\n").await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        let mut commands = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let command: Value = serde_json::from_str(&line).unwrap();
            let first = command["execute"] == "qmp_capabilities";
            commands.push(command);
            if first || commands.len() == 3 {
                for command in commands.drain(..).rev() {
                    let status = json!({ "status": command["arguments"]["name"] });
                    let said = json!({ "return": status, "id": command["id"] });
                    writer.write_all(format!("{said}\n").as_bytes()).await.unwrap();
                }
            }
        }
    });
    let (client, _events) = Client::connect(&path, LIMIT).await.unwrap();
    let ask = |name: &'static str| client.execute("query", json!({ "name": name }));
    let (a, b, c) = tokio::join!(ask("a"), ask("b"), ask("c"));
    for (answer, name) in [(a, "a"), (b, "b"), (c, "c")] {
        assert_eq!(answer.unwrap()["status"], name);
    }
}

#[tokio::test]
async fn qemu_itself_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let binary =
        std::env::var("GODWIT_TEST_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let mut qemu = tokio::process::Command::new(binary)
        .args(["-nodefaults", "-machine", "none", "-display", "none", "-S", "-qmp"])
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("qemu-system-x86_64 (Debian package qemu-system-x86)");
    let (client, _events) = loop {
        match Client::connect(&path, LIMIT).await {
            Ok(connected) => break connected,
            Err(QmpError::Connect { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(client.status().await.unwrap().status, "prelaunch");
    let features = Features::probe(&client).await.unwrap();
    assert!(features.return_path && features.pause_before_switchover && features.events);
    assert!(features.late_block_activate);
    // What came together in the same QEMU is found together, and by name only.
    let version = client.execute("query-version", Value::Null).await.unwrap();
    let number = |part: &str| version["qemu"][part].as_u64().unwrap();
    let (major, minor) = (number("major"), number("minor"));
    assert_eq!(features.switchover_ack, (major, minor) >= (8, 1));
    assert_eq!(features.avail_switchover_bandwidth, (major, minor) >= (8, 2));
    assert_eq!(features.exit_on_error, (major, minor) >= (9, 1));
    assert!(client.human("info status").await.unwrap().contains("prelaunch"));
    assert!(client.execute("no-such-command", Value::Null).await.is_err());
    let _ = client.quit().await;
    assert!(qemu.wait().await.unwrap().success());
}
