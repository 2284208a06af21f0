//! Both carriers, a scripted QEMU at each, and a line between that can be cut.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use types::{BlockPlacement, CarrierConfig, CarrierEvent, CarrierSide, Outage};

use super::{LIMIT, Place, Side, start};

pub(crate) struct Pair {
    pub(crate) from: Side,
    pub(crate) to: Side,
    pub(crate) source_qemu: UnixStream,
    pub(crate) destination_qemu: UnixStream,
    pub(crate) place: Place,
    pub(crate) line: Arc<Line>,
}

/// Passes connections on from its own port to another.
#[derive(Default)]
pub(crate) struct Line {
    ends: Mutex<Vec<TcpStream>>,
    refuses: AtomicBool,
    /// Stops what goes from the source to the destination.
    shut: Mutex<bool>,
    changed: Condvar,
}

impl Line {
    fn to(port: u16) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let line = Arc::new(Self::default());
        let passing = line.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !passing.refuses.load(Ordering::Relaxed) {
                    passing.pass(near, port);
                }
            }
        });
        (line, own)
    }

    fn pass(self: &Arc<Self>, near: TcpStream, port: u16) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let mut ends = self.ends.lock().unwrap();
        ends.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        drop(ends);
        let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        join(near, far, self.clone());
        join(far2, near2, Arc::default());
    }

    /// Stands still, or goes on.
    pub(crate) fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Turns new connections away, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    fn wait(&self) {
        drop(self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
    }
}

impl Pair {
    pub(crate) fn new(blocks: impl Fn(&Place) -> Vec<BlockPlacement>) -> Self {
        Self::bearing(Outage::default(), blocks)
    }

    pub(crate) fn bearing(
        bearable: Outage,
        blocks: impl Fn(&Place) -> Vec<BlockPlacement>,
    ) -> Self {
        Self::changed(blocks, |config| {
            if let CarrierSide::Source { outage, .. } = &mut config.side {
                *outage = bearable;
            }
        })
    }

    /// With something changed in both configurations.
    pub(crate) fn changed(
        blocks: impl Fn(&Place) -> Vec<BlockPlacement>,
        change: impl Fn(&mut CarrierConfig),
    ) -> Self {
        let place = Place::new();
        let listener = UnixListener::bind(place.path("host-b.qemu")).unwrap();
        let mut config = place.destination(blocks(&place));
        change(&mut config);
        let mut to = start(config);
        let (line, port) = Line::to(to.agent.port());
        let mut config = place.source(port, false);
        change(&mut config);
        let mut from = start(config);
        from.agent.wait(|e| matches!(e, CarrierEvent::Connected { .. }).then_some(()));
        let source_qemu = UnixStream::connect(place.path("host-a.qemu")).unwrap();
        let (destination_qemu, _) = listener.accept().unwrap();
        source_qemu.set_read_timeout(Some(LIMIT)).unwrap();
        destination_qemu.set_read_timeout(Some(LIMIT)).unwrap();
        Self { from, to, source_qemu, destination_qemu, place, line }
    }

    /// The destination's QEMU reads whatever comes.
    pub(crate) fn swallow(&self) {
        let mut rest = self.destination_qemu.try_clone().unwrap();
        thread::spawn(move || std::io::copy(&mut rest, &mut std::io::sink()));
    }
}

fn join(mut from: TcpStream, mut to: TcpStream, line: Arc<Line>) {
    thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut bytes)
            && n > 0
        {
            line.wait();
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
