//! Retained images on disk, for hosts that reboot.
//!
//! A copy is made when an image is kept, by a thread of its own, and read back when there is
//! none in memory. It is the memory file itself, with its holes, and nothing besides: as with
//! images in memory, every page is hashed when it is used, so that what was tampered with,
//! torn or grown old costs bytes and no more. One that was not finished never gets its name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::{VmmError, dirs};

/// What a copy is called until it is whole.
const UNFINISHED: &str = "unfinished";
const PIECE: usize = 1 << 20;

/// The folder, and how much may be in it.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    most: u64,
    age: Duration,
    /// One copy is made at a time.
    copying: Mutex<()>,
}

impl Disk {
    /// Opens the folder; what was not finished there is removed.
    pub(super) fn open(dir: &Path, most: u64, age: Duration) -> Result<Self, VmmError> {
        dirs::private(dir)?;
        let disk = Self { dir: dir.to_owned(), most, age, copying: Mutex::new(()) };
        let unfinished = disk.dir.join(UNFINISHED);
        dirs::absent(fs::remove_file(&unfinished)).map_err(VmmError::io("remove", &unfinished))?;
        disk.expire();
        Ok(disk)
    }

    /// Copies an image that has just been kept.
    pub(super) fn keep(&self, name: &str, image: &File) -> io::Result<()> {
        let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        self.expire();
        let size = image.metadata()?.blocks() * 512;
        self.remove(name)?;
        if size > self.most {
            return Ok(());
        }
        while self.size() + size > self.most && self.drop_oldest() {}
        let unfinished = self.dir.join(UNFINISHED);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let copied = file
            .set_len(image.metadata()?.len())
            .and_then(|()| copy(image, &file))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&unfinished, self.dir.join(name)));
        if copied.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        copied
    }

    /// Fills a file of zeros with the image, if there is one of its length.
    pub(super) fn fill(&self, name: &str, file: &File) -> io::Result<bool> {
        self.expire();
        let path = self.dir.join(name);
        let image = match File::open(&path) {
            Ok(image) => image,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if image.metadata()?.len() != file.metadata()?.len() {
            tracing::warn!("a retained image on disk does not fit the VM, and is not used");
            fs::remove_file(&path)?;
            return Ok(false);
        }
        copy(&image, file)?;
        Ok(true)
    }

    /// Removes an image; fine if there is none.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        dirs::absent(fs::remove_file(self.dir.join(name)))
    }

    /// Removes what is older than it may be.
    fn expire(&self) {
        let now = SystemTime::now();
        for (path, made, _) in self.list() {
            // A clock that was set back keeps nothing for ever.
            if now.duration_since(made).map_or(true, |age| age >= self.age) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn drop_oldest(&self) -> bool {
        let oldest = self.list().into_iter().min_by_key(|(_, made, _)| *made);
        oldest.is_some_and(|(path, ..)| fs::remove_file(path).is_ok())
    }

    fn size(&self) -> u64 {
        self.list().iter().map(|(.., bytes)| bytes).sum()
    }

    /// Path, when it was made, bytes it takes.
    fn list(&self) -> Vec<(PathBuf, SystemTime, u64)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let of = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let found = entry.metadata().ok()?;
            let whole = entry.file_name() != UNFINISHED;
            whole.then_some((entry.path(), found.modified().ok()?, found.blocks() * 512))
        };
        entries.filter_map(of).collect()
    }
}

/// Copies what is not a hole, and of that what is not zero.
fn copy(from: &File, to: &File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let bytes = &mut piece[..PIECE.min((end - at) as usize)];
            from.read_exact_at(bytes, at)?;
            for page in bytes.chunks(4096) {
                if page.iter().any(|byte| *byte != 0) {
                    to.write_all_at(page, at)?;
                }
                at += page.len() as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> File {
        fs::write(dir.join(name), bytes).unwrap();
        OpenOptions::new().read(true).write(true).open(dir.join(name)).unwrap()
    }

    fn image() -> Vec<u8> {
        (0..4u8).flat_map(|n| [n; 4096]).collect()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_image_comes_back_after_a_reboot_and_a_wrong_one_does_not() {
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = dir.path();
        let disk = Disk::open(folder.path(), 1 << 20, HOUR).unwrap();
        disk.keep("one", &file(dir, "left", &image())).unwrap();
        // Half written when the power went.
        fs::write(folder.path().join(UNFINISHED), [1; 100]).unwrap();
        let disk = Disk::open(folder.path(), 1 << 20, HOUR).unwrap();
        assert!(!folder.path().join(UNFINISHED).exists());
        let back = file(dir, "back", &[0; 16384]);
        assert!(!disk.fill("another", &back).unwrap(), "another VM's");
        assert!(disk.fill("one", &back).unwrap());
        assert_eq!(fs::read(dir.join("back")).unwrap(), image());
        // Truncated: refused, and gone.
        let kept = OpenOptions::new().write(true).open(folder.path().join("one")).unwrap();
        kept.set_len(9000).unwrap();
        let again = file(dir, "again", &[0; 16384]);
        assert!(!disk.fill("one", &again).unwrap());
        assert_eq!(fs::read(dir.join("again")).unwrap(), [0; 16384]);
        assert!(!folder.path().join("one").exists());
    }

    #[test]
    fn the_policy_bounds_size_and_age() {
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let left = file(dir.path(), "left", &[7; 16384]);
        let disk = Disk::open(folder.path(), 40_000, HOUR).unwrap();
        for name in ["one", "two", "three"] {
            disk.keep(name, &left).unwrap();
        }
        assert_eq!(disk.list().len(), 2);
        assert!(!folder.path().join("one").exists(), "the oldest went");
        disk.keep("big", &file(dir.path(), "big", &[7; 65536])).unwrap();
        assert!(!folder.path().join("big").exists());
        let short = Disk::open(folder.path(), 40_000, Duration::ZERO).unwrap();
        assert_eq!(short.list().len(), 0, "too old");
    }
}
