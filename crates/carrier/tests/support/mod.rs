//! Two carriers as threads, agents played by the test, certificates of a test CA.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod pair;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use api::certs::{Party, create_ca, issue};
use types::{
    AttemptId, BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, CarrierSide, HostId,
    Outage,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_ca(dir.path()).unwrap();
        for host in ["host-a", "host-b", "host-c"] {
            issue(dir.path(), &Party::Host(host.parse().unwrap())).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self, host: &str, peer: &str, side: CarrierSide) -> CarrierConfig {
        let id = |h: &str| h.parse::<HostId>().unwrap();
        CarrierConfig {
            attempt: AttemptId(uuid::Uuid::from_u128(1)),
            secret: "11".repeat(32),
            host: id(host),
            peer: id(peer),
            ca: self.path("ca.pem"),
            cert: self.path(&format!("{host}.pem")),
            key: self.path(&format!("{host}.key")),
            control: self.path(&format!("{host}.control")),
            qemu: self.path(&format!("{host}.qemu")),
            side,
        }
    }

    pub(crate) fn destination(&self, blocks: Vec<BlockPlacement>) -> CarrierConfig {
        let side = CarrierSide::Destination {
            listen: "127.0.0.1".into(),
            ports: (0, 0),
            blocks,
            image: false,
        };
        self.config("host-b", "host-a", side)
    }

    pub(crate) fn source(&self, port: u16, opaque: bool) -> CarrierConfig {
        let side = CarrierSide::Source {
            connect: format!("127.0.0.1:{port}"),
            opaque,
            recheck: Vec::new(),
            outage: Outage::default(),
            force: None,
        };
        self.config("host-a", "host-b", side)
    }
}

/// A carrier and the agent's end of its control socket.
pub(crate) struct Side {
    pub(crate) agent: Agent,
    pub(crate) thread: JoinHandle<Result<(), carrier::CarrierError>>,
}

pub(crate) fn start(config: CarrierConfig) -> Side {
    let control = config.control.clone();
    let thread = thread::spawn(move || carrier::run(&config));
    Side { agent: Agent::connect(&control), thread }
}

pub(crate) struct Agent {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    pub(crate) seen: Vec<CarrierEvent>,
}

impl Agent {
    pub(crate) fn connect(control: &Path) -> Self {
        let until = Instant::now() + LIMIT;
        let stream = loop {
            match UnixStream::connect(control) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < until, "{e}"),
            }
            thread::sleep(Duration::from_millis(2));
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let writer = stream.try_clone().unwrap();
        Self { reader: BufReader::new(stream), writer, seen: Vec::new() }
    }

    pub(crate) fn send(&mut self, command: CarrierCommand) {
        let line = serde_json::to_string(&command).unwrap();
        writeln!(self.writer, "{line}").unwrap();
    }

    /// The next event that `want` accepts; others are kept in `seen`.
    pub(crate) fn wait<T>(&mut self, want: impl Fn(&CarrierEvent) -> Option<T>) -> T {
        loop {
            let mut line = String::new();
            let n = self.reader.read_line(&mut line).unwrap();
            assert!(n > 0, "the carrier has gone; it said {:?}", self.seen);
            let event: CarrierEvent = serde_json::from_str(&line).unwrap();
            self.seen.push(event.clone());
            if let Some(found) = want(&event) {
                return found;
            }
            if let CarrierEvent::Failed { reason } = &event {
                panic!("failed: {reason}");
            }
        }
    }

    pub(crate) fn port(&mut self) -> u16 {
        self.wait(|e| match e {
            CarrierEvent::Listening { port } => Some(*port),
            _ => None,
        })
    }

    pub(crate) fn failure(&mut self) -> String {
        self.wait(|e| match e {
            CarrierEvent::Failed { reason } => Some(reason.clone()),
            _ => None,
        })
    }

    pub(crate) fn is(&mut self, what: &CarrierEvent) {
        self.wait(|e| (e == what).then_some(()));
    }
}

/// Ends a carrier and waits for it.
pub(crate) fn end(mut side: Side) {
    side.agent.send(CarrierCommand::End);
    let _ = side.thread.join().unwrap();
}

/// Header and configuration of a stream.
pub(crate) fn beginning() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07".to_vec();
    let machine = b"pc-q35-7.2";
    bytes.extend((machine.len() as u32).to_be_bytes());
    bytes.extend(machine);
    bytes
}

/// `ram` START with one block `pc.ram`.
pub(crate) fn ram_start(length: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend(b"\x03ram");
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(4u32.to_be_bytes());
    bytes.extend((length | 4).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend(length.to_be_bytes());
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART with one page of `fill` at `offset`.
pub(crate) fn part(offset: u64, fill: u8) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend((offset | 8).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend([fill; 4096]);
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART that says that the page at `offset` is zero.
pub(crate) fn zero_part(offset: u64) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend((offset | 2).to_be_bytes());
    bytes.extend(b"\x06pc.ram\0");
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

/// A `ram` PART without pages.
pub(crate) fn empty_part() -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(2u32.to_be_bytes());
    bytes.extend(0x10u64.to_be_bytes());
    bytes.push(0x7e);
    bytes.extend(2u32.to_be_bytes());
    bytes
}

pub(crate) fn file_of(place: &Place, size: u64, length: u64) -> Vec<BlockPlacement> {
    let file = place.path("memory");
    File::create(&file).unwrap().set_len(size).unwrap();
    vec![BlockPlacement { block: "pc.ram".into(), file, offset: 0, length }]
}
