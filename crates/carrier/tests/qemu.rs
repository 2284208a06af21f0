//! Real QEMUs on both sides, in every mode.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use types::{BlockPlacement, CarrierCommand, CarrierEvent, Mode};

use support::{LIMIT, Place, start};

const MEMORY: u64 = 64 << 20;

struct Qemu {
    process: Child,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    memory: PathBuf,
}

impl Qemu {
    fn start(place: &Place, name: &str, incoming: bool) -> Self {
        let memory = place.path(&format!("{name}.ram"));
        File::create(&memory).unwrap().set_len(MEMORY).unwrap();
        let backend = json!({
            "qom-type": "memory-backend-file", "id": "pc.ram", "size": MEMORY,
            "mem-path": memory, "share": true,
        });
        let monitor = place.path(&format!("{name}.qmp"));
        let binary =
            std::env::var("GODWIT_TEST_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".into());
        let mut command = Command::new(binary);
        command
            .args(["-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-m", "64"])
            .args(["-machine", "q35,memory-backend=pc.ram"])
            .args(["-object", &backend.to_string()])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .stdin(Stdio::null());
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let process = command.spawn().expect("qemu-system-x86_64 (package qemu-system-x86)");
        let until = Instant::now() + LIMIT;
        let stream = loop {
            match UnixStream::connect(&monitor) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < until, "{e}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let writer = stream.try_clone().unwrap();
        let mut qemu = Self { process, reader: BufReader::new(stream), writer, memory };
        qemu.line();
        qemu.execute("qmp_capabilities", json!({}));
        qemu
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Value {
        writeln!(self.writer, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
        loop {
            let line = self.line();
            assert!(line.get("error").is_none(), "{command}: {line}");
            if let Some(value) = line.get("return") {
                return value.clone();
            }
        }
    }

    fn wait_migrated(&mut self) {
        let until = Instant::now() + LIMIT;
        loop {
            let status = self.execute("query-migrate", json!({}));
            match status["status"].as_str() {
                Some("completed") => return,
                Some("failed" | "cancelled") => panic!("{status}"),
                _ => assert!(Instant::now() < until, "{status}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Content of every kind: words, noise, zeros between them.
fn fill(memory: &Path) {
    let file = OpenOptions::new().write(true).open(memory).unwrap();
    let mut state = 1u64;
    for page in (256..12_000u64).filter(|p| p % 3 != 0) {
        let mut bytes = [0u8; 4096];
        for chunk in bytes.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = if page % 2 == 0 { state >> 11 } else { page };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, page * 4096).unwrap();
    }
}

fn moves(mode: Mode) {
    let place = Place::new();
    let mut a = Qemu::start(&place, "a", false);
    let mut b = Qemu::start(&place, "b", true);
    fill(&a.memory);
    let uri = |host: &str| json!({ "uri": format!("unix:{}", place.path(host).display()) });
    b.execute("migrate-incoming", uri("host-b.qemu"));
    let blocks = match mode {
        Mode::Direct => vec![BlockPlacement {
            block: "pc.ram".into(),
            file: b.memory.clone(),
            offset: 0,
            length: MEMORY,
        }],
        _ => Vec::new(),
    };
    let mut to = start(place.destination(blocks));
    let port = to.agent.port();
    let mut from = start(place.source(port, mode == Mode::Opaque));
    from.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
    a.execute(
        "migrate-set-capabilities",
        json!({
            "capabilities": [{ "capability": "return-path", "state": true }]
        }),
    );
    a.execute("migrate-set-parameters", json!({ "max-bandwidth": 0 }));
    a.execute("migrate", uri("host-a.qemu"));
    let said = |e: &CarrierEvent| match e {
        CarrierEvent::Mode { mode, .. } => Some(*mode),
        _ => None,
    };
    assert_eq!(from.agent.wait(said), mode);
    assert_eq!(to.agent.wait(said), mode);
    from.agent.send(CarrierCommand::Tail);
    if mode != Mode::Opaque {
        to.agent.is(&CarrierEvent::Sealed);
    }
    b.wait_migrated();
    a.wait_migrated();
    assert_eq!(b.execute("query-status", json!({}))["running"], false);
    assert!(fs::read(&a.memory).unwrap() == fs::read(&b.memory).unwrap(), "memory differs");
    from.agent.is(&CarrierEvent::Finished);
    // Notes still travel when the stream is delivered.
    to.agent.send(CarrierCommand::Note { text: "running".into() });
    from.agent.is(&CarrierEvent::Note { text: "running".into() });
    from.agent.send(CarrierCommand::End);
    let counters = from.agent.seen.iter().rev().find_map(|e| match e {
        CarrierEvent::Counters(c) => Some(*c),
        _ => None,
    });
    let counters = counters.unwrap();
    assert!(counters.sent_bytes > 1 << 20, "{counters:?}");
    if mode != Mode::Opaque {
        let pages = counters.pages;
        assert!(pages.zero > 4000 && pages.raw + pages.compressed >= 7000, "{pages:?}");
        assert_eq!(counters.unacknowledged_bytes, 0);
    }
    from.thread.join().unwrap().unwrap();
    to.thread.join().unwrap().unwrap();
}

#[test]
fn pages_are_placed_directly() {
    moves(Mode::Direct);
}

#[test]
fn pages_travel_in_the_stream() {
    moves(Mode::Stream);
}

#[test]
fn an_opaque_stream_is_carried() {
    moves(Mode::Opaque);
}
