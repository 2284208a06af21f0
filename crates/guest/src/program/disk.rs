//! The role `fsync`: hash-chained blocks on the first disk, each acknowledged
//! by the disk before the next is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use godwit_guest::chain::{self, Head, Ring};

use super::{Every, Guest, say};

const DISK: &str = "/dev/vda";

/// What the disk has acknowledged.
#[derive(Default)]
pub(crate) struct Disk(Mutex<Head>);

impl Disk {
    /// The newest acknowledged block.
    pub(crate) fn head(&self) -> Head {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its counter.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.head().counter
    }
}

/// Goes on with the chain that is on the disk, a block each `period`.
pub(super) fn run(guest: &Guest, period: Duration) {
    if let Err(e) = write(guest, period) {
        say(&format!("guest ERROR {DISK}: {e}"));
    }
}

fn write(guest: &Guest, period: Duration) -> io::Result<()> {
    let mut disk: File = OpenOptions::new().read(true).write(true).open(DISK)?;
    let size = disk.seek(SeekFrom::End(0))?;
    let ring = Ring::linux(size).ok_or_else(|| io::Error::other("too small for a chain"))?;
    let mut head = chain::newest(&mut disk, &ring)?;
    say(&format!("guest chains from block {} on", head.counter));
    let mut block = vec![0; ring.block];
    let mut every = Every::new(period);
    loop {
        head = head.next(&mut block);
        disk.seek(SeekFrom::Start(ring.place(head.counter)))?;
        disk.write_all(&block)?;
        disk.sync_data()?;
        *guest.disk.0.lock().unwrap_or_else(PoisonError::into_inner) = head;
        every.wait();
    }
}
