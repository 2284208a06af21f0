//! The role `fsync`: hash-chained blocks on every disk that can be written to, each
//! acknowledged by the disk before the next is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use godwit_guest::chain::{self, Head, Ring};

use super::{Every, Guest, say};

/// What the disks have acknowledged.
#[derive(Default)]
pub(crate) struct Disks(Mutex<Vec<Head>>);

impl Disks {
    /// The newest acknowledged block of a disk.
    pub(crate) fn head(&self, index: usize) -> Head {
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.get(index).copied().unwrap_or_default()
    }

    fn set(&self, index: usize, head: Head) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() <= index {
            heads.resize(index + 1, Head::default());
        }
        heads[index] = head;
    }
}

/// The disks that can be written to: virtio-blk first, then SCSI, each in order.
pub(super) fn found() -> Vec<String> {
    let named = ["vd", "sd"].iter().flat_map(|kind| ('a'..='p').map(move |c| format!("{kind}{c}")));
    let writable = |name: &String| {
        let read_only = std::fs::read_to_string(format!("/sys/block/{name}/ro"));
        read_only.is_ok_and(|text| text.trim() == "0")
    };
    named.filter(writable).collect()
}

/// Goes on with the chain that is on a disk, a block each `period`.
pub(super) fn run(guest: &Guest, index: usize, name: &str, period: Duration) {
    if let Err(e) = write(guest, index, name, period) {
        say(&format!("guest ERROR {name}: {e}"));
    }
}

fn write(guest: &Guest, index: usize, name: &str, period: Duration) -> io::Result<()> {
    let device = Path::new("/dev").join(name);
    let mut disk: File = OpenOptions::new().read(true).write(true).open(device)?;
    let size = disk.seek(SeekFrom::End(0))?;
    let ring = Ring::linux(size).ok_or_else(|| io::Error::other("too small for a chain"))?;
    let mut head = chain::newest(&mut disk, &ring)?;
    say(&format!("guest chains on {name} from block {} on", head.counter));
    let mut block = vec![0; ring.block];
    let mut every = Every::new(period);
    loop {
        head = head.next(&mut block);
        disk.seek(SeekFrom::Start(ring.place(head.counter)))?;
        disk.write_all(&block)?;
        disk.sync_data()?;
        guest.disks.set(index, head);
        every.wait();
    }
}
