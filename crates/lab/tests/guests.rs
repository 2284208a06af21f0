//! Both guests in a real QEMU: they boot, do what they are told, and what they
//! leave can be checked from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use guest::chain::{self, Ring};
use guest::tiny;
use lab::images::{self, LinuxOptions, TinyOptions};
use lab::witness::{BeatWitness, Control, StreamWitness, first_answer};

const LIMIT: Duration = Duration::from_secs(60);

/// A QEMU with its serial port at our hands; ended with the test.
struct Machine {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Machine {
    fn start(arguments: &[&str]) -> Self {
        let qemu = std::env::var("GODWIT_TEST_QEMU").unwrap_or("qemu-system-x86_64".into());
        let mut process = Command::new(qemu)
            .args(["-accel", "tcg", "-display", "none", "-nodefaults", "-no-user-config"])
            .args(["-serial", "stdio"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The first line from now on that holds `text`.
    fn line(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap().trim_end().to_owned();
            assert!(!line.contains("ERROR"), "{line}");
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no {text:?} in {seen:#?}");
    }

    fn type_in(&mut self, text: &str) {
        self.process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number behind a word of the tiny guest's lines.
fn field(line: &str, word: &str) -> u32 {
    let mut words = line.split_whitespace().skip_while(|w| *w != word);
    u32::from_str_radix(words.nth(1).unwrap(), 16).unwrap()
}

fn tiny_machine(dir: &Path) -> Machine {
    let memory = dir.join("memory");
    let backend =
        format!("memory-backend-file,id=m,size=64M,share=on,mem-path={}", memory.display());
    let disk = format!("file={},format=raw,if=none,id=d", dir.join("tiny.raw").display());
    Machine::start(&[
        "-machine",
        "pc,memory-backend=m",
        "-m",
        "64",
        "-object",
        &backend,
        "-drive",
        &disk,
        "-device",
        "ide-hd,drive=d,bus=ide.0",
    ])
}

#[test]
fn the_tiny_guest_boots_works_and_can_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = (dir.path().join("tiny.raw"), dir.path().join("memory"));
    images::tiny(&disk, &TinyOptions { rate: 50, ..TinyOptions::default() }).unwrap();
    let mut acknowledged = 0;
    for boot in 0..2 {
        let started = Instant::now();
        let mut machine = tiny_machine(dir.path());
        let ready = machine.line("tiny ready");
        eprintln!("ready after {:?}", started.elapsed());
        assert_eq!(field(&ready, "memory"), 64 << 20);
        assert!(field(&ready, "disk") >= acknowledged, "boot {boot} goes on: {ready}");
        let line = (0..20).map(|_| machine.line("tiny beat")).last().unwrap();
        machine.end();
        assert_eq!((field(&line, "beat"), field(&line, "bad")), (20, 0));
        acknowledged = field(&line, "disk");
        let head = tiny::check(&mut File::open(&memory).unwrap()).unwrap();
        assert!(head.beats >= 20 && head.rewritten >= 20 * 64, "{head:?}");
        let newest =
            images::check_tiny_disk(&mut File::open(&disk).unwrap(), acknowledged).unwrap();
        assert!(newest.counter >= 20 * (boot + 1), "{newest:?}");
        assert!(newest.counter >= head.disk, "what is acknowledged is there");
        std::fs::remove_file(&memory).unwrap();
    }
}

#[test]
fn the_tiny_guest_tells_when_its_memory_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    // One MiB of pattern, all of it seen again and again.
    let options = TinyOptions { rate: 100, rewrite: 8, window: 64, limit: 2 << 20, chain: false };
    images::tiny(&dir.path().join("tiny.raw"), &options).unwrap();
    let mut machine = tiny_machine(dir.path());
    machine.line("tiny ready");
    let memory = File::options().read(true).write(true).open(dir.path().join("memory")).unwrap();
    for address in [0x10_2004, 0x1f_f00c] {
        let mut word = [0; 4];
        memory.read_exact_at(&mut word, address).unwrap();
        word[0] ^= 1;
        memory.write_all_at(&word, address).unwrap();
        let told = machine.line("tiny BAD");
        assert_eq!(u64::from(field(&told, "address")), address, "{told}");
        assert_eq!(field(&told, "found"), u32::from_le_bytes(word), "{told}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_linux_guest_boots_serves_beats_and_can_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let linux = images::linux(&images::default_cache(), &LinuxOptions::default()).unwrap();
    let disk = dir.path().join("disk.raw");
    File::create(&disk).unwrap().set_len(4 << 20).unwrap();
    let beats = BeatWitness::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let roles = "serve:64,beat:10,fill:24,dirty:8:8,fsync:5";
    let cmdline = format!(
        "console=ttyS0 quiet panic=-1 ipv6.disable=1 godwit.ip=10.77.1.5/16 \
         godwit.witness=10.77.0.1:{} godwit.roles={roles}",
        beats.address().port(),
    );
    let (serve, control) = (free_port(), free_port());
    let net = format!(
        "user,id=n,net=10.77.0.0/16,host=10.77.0.1,hostfwd=tcp:127.0.0.1:{serve}-10.77.1.5:7000,\
         hostfwd=tcp:127.0.0.1:{control}-10.77.1.5:7002"
    );
    let drive = format!("file={},format=raw,if=none,id=d", disk.display());
    let (kernel, initrd) = (linux.kernel.to_string_lossy(), linux.initrd.to_string_lossy());
    let started = Instant::now();
    let mut machine = Machine::start(&[
        "-machine",
        "q35",
        "-m",
        "192",
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-append",
        &cmdline,
        "-drive",
        &drive,
        "-device",
        "virtio-blk-pci,drive=d",
        "-netdev",
        &net,
        "-device",
        "virtio-net-pci,netdev=n",
    ]);
    let ready = machine.line("guest ready");
    eprintln!("ready after {:?}", started.elapsed());
    assert!(ready.contains("roles=serve:64,beat:10,fill:24,dirty:8:8:100,fsync:5"), "{ready}");
    machine.line("guest filled 24 MiB");
    machine.type_in("verify\n");
    let answer = machine.line("guest answer");
    assert!(answer.ends_with("guest answer ok fill_pages=6144 dirty_pages=2048"), "{answer}");

    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    first_answer(address(control), LIMIT).unwrap();
    let stream = StreamWitness::connect(address(serve), LIMIT).unwrap();
    assert!(stream.wait_for(32 << 10, LIMIT), "{:?}", stream.report());
    assert!(stream.finish().flawless());
    assert!(beats.wait_for(Ipv4Addr::LOCALHOST.into(), 50, LIMIT));
    let heard = beats.report(Ipv4Addr::LOCALHOST.into());
    assert_eq!((heard.missing, heard.regressions, heard.reboots), (0, 0, 0), "{heard:?}");

    let mut control = Control::connect(address(control), LIMIT).unwrap();
    assert_eq!(control.verify().unwrap(), 6144 + 2048);
    assert_eq!(control.ask("echo a b").unwrap(), "a b");
    assert_eq!(control.status().unwrap()["filled_mib"], "24");
    let acknowledged = control.acknowledged().unwrap();
    machine.end();
    let ring = Ring::linux(4 << 20).unwrap();
    let newest = chain::check(&mut File::open(&disk).unwrap(), &ring, acknowledged).unwrap();
    assert!(newest.counter >= acknowledged && acknowledged > 0);
}

/// Frames of an Ethernet as datagrams: one end is a network card of QEMU.
struct Wire {
    socket: UdpSocket,
    option: String,
}

impl Wire {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ours = socket.local_addr().unwrap();
        // A port that is free now; QEMU takes it in a moment.
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        socket.connect(theirs).unwrap();
        Self { socket, option: format!("socket,id=n,udp={ours},localaddr={theirs}") }
    }

    /// The next frame, or none within `limit`.
    fn frame(&self, limit: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut frame = vec![0; 2048];
        let length = self.socket.recv(&mut frame).ok()?;
        frame.truncate(length);
        Some(frame)
    }
}

/// Who has 10.77.1.6? Asks 10.77.0.1.
fn arp_request() -> Vec<u8> {
    let (me, everybody) = ([2, 0, 0, 0, 0, 1], [0xff; 6]);
    let head = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    let mut frame = [everybody.as_slice(), &me, &head].concat();
    frame.extend_from_slice(&me);
    frame.extend_from_slice(&[10, 77, 0, 1, 0, 0, 0, 0, 0, 0, 10, 77, 1, 6]);
    frame.resize(60, 0);
    frame
}

#[test]
fn a_quiet_linux_guest_answers_and_never_speaks() {
    let linux = images::linux(&images::default_cache(), &LinuxOptions::default()).unwrap();
    let (kernel, initrd) = (linux.kernel.to_string_lossy(), linux.initrd.to_string_lossy());
    let wire = Wire::new();
    let mut machine = Machine::start(&[
        "-m",
        "128",
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-append",
        "console=ttyS0 quiet ipv6.disable=1 godwit.ip=10.77.1.6/16 godwit.roles=quiet,serve",
        "-netdev",
        &wire.option,
        "-device",
        "virtio-net-pci,netdev=n",
    ]);
    machine.line("guest tick 2");
    assert_eq!(wire.frame(Duration::from_millis(1)), None);
    wire.socket.send(&arp_request()).unwrap();
    let answer = wire.frame(LIMIT).unwrap();
    assert_eq!(answer[12..14], [0x08, 0x06]);
    assert_eq!(answer[28..32], [10, 77, 1, 6]);
    machine.line("guest tick");
    assert_eq!(wire.frame(Duration::from_millis(1)), None);
}

#[test]
fn the_linux_guest_powers_off_and_tells_roles_that_it_does_not_know() {
    let linux = images::linux(&images::default_cache(), &LinuxOptions::default()).unwrap();
    let (kernel, initrd) = (linux.kernel.to_string_lossy(), linux.initrd.to_string_lossy());
    let machine = |roles: &str| {
        let cmdline = format!("console=ttyS0 quiet godwit.roles={roles}");
        Machine::start(&["-m", "128", "-kernel", &kernel, "-initrd", &initrd, "-append", &cmdline])
    };
    let mut idle = machine("quiet");
    idle.line("guest ready");
    idle.type_in("poweroff\n");
    assert!(idle.process.wait().unwrap().success());

    let mut wrong = machine("sing");
    let told = wrong.lines.by_ref().map(Result::unwrap).find(|l| l.contains("ERROR")).unwrap();
    assert!(told.contains("role \"sing\": is none of"), "{told}");
    assert!(wrong.process.wait().unwrap().success());
}
