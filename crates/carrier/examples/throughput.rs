//! How fast two carriers move memory over loopback, without QEMU, and how much memory of
//! their own both take together (the last line; the test's own threads are part of it):
//! `cargo run --release -p carrier --example throughput [MiB]`.

#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use types::{BlockPlacement, CarrierCommand, CarrierEvent};

use support::{Place, start};

/// A stream of QEMU 7.2 with one block of `pages` pages, half of each compressible.
fn write_stream(mut qemu: UnixStream, pages: u64) {
    let length = pages * 4096;
    let mut head = b"QEVM\0\0\0\x03\x07\0\0\0\x0apc-q35-7.2\x01\0\0\0\x02\x03ram".to_vec();
    head.extend([0, 0, 0, 0, 0, 0, 0, 4]);
    head.extend((length | 4).to_be_bytes());
    head.extend(b"\x06pc.ram");
    head.extend(length.to_be_bytes());
    head.extend(0x10u64.to_be_bytes());
    head.extend(b"\x7e\0\0\0\x02\x03\0\0\0\x02");
    qemu.write_all(&head).unwrap();
    let mut state = 1u64;
    let mut out = Vec::new();
    for page in 0..pages {
        let flags = if page == 0 { 8 } else { 0x28 };
        out.extend(((page * 4096) | flags).to_be_bytes());
        if page == 0 {
            out.extend(b"\x06pc.ram");
        }
        for word in 0..512u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = if word % 2 == 0 { state >> 8 } else { page };
            out.extend(value.to_le_bytes());
        }
        if out.len() > 32 << 10 {
            qemu.write_all(&out).unwrap();
            out.clear();
        }
    }
    out.extend(0x10u64.to_be_bytes());
    out.extend(b"\x7e\0\0\0\x02\x00");
    qemu.write_all(&out).unwrap();
    let _ = qemu.read(&mut [0; 16]);
}

fn main() {
    let mib: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1024);
    let place = Place::new();
    let file = PathBuf::from(format!("/dev/shm/godwit-throughput-{}", std::process::id()));
    File::create(&file).unwrap().set_len(mib << 20).unwrap();
    let listener = UnixListener::bind(place.path("host-b.qemu")).unwrap();
    let blocks = vec![BlockPlacement {
        block: "pc.ram".into(),
        file: file.clone(),
        offset: 0,
        length: mib << 20,
    }];
    let mut to = start(place.destination(blocks));
    let port = to.agent.port();
    let mut from = start(place.source(port, false));
    from.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
    let qemu = UnixStream::connect(place.path("host-a.qemu")).unwrap();
    let (mut sink, _) = listener.accept().unwrap();
    thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));
    let begun = Instant::now();
    thread::spawn(move || write_stream(qemu, mib << 8));
    to.agent.is(&CarrierEvent::Sealed);
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&file).unwrap();
    let counters = from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == mib << 20).then_some(*c),
        _ => None,
    });
    println!("{mib} MiB in {seconds:.2} s: {:.0} MiB/s; {counters:?}", mib as f64 / seconds);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("RssAnon")).unwrap());
    from.agent.send(CarrierCommand::End);
    let _ = from.thread.join();
    to.agent.send(CarrierCommand::End);
    let _ = to.thread.join();
}
