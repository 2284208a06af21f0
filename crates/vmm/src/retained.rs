//! Retained images: memory files of VMs that have left, kept for their return.
//!
//! An image is a file of its own name, made by renaming a memory file whose QEMU is
//! dead, and gone by renaming it back before anything writes to it. So it is held by
//! one instance or by nobody, and what an attempt left half written never becomes one.
//! What is in it is hashed when it is used; nothing about it is written down. Where the
//! policy allows it, a copy on disk outlives the host's reboot.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use types::{BlockPlacement, Bytes, VmId};

use crate::{VmmError, dirs};

mod disk;

use disk::Disk;

/// Name of the folder.
pub(crate) const FOLDER: &str = "retained";

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// Nothing is kept for longer; zero keeps nothing.
    pub age: Duration,
    /// No more is kept, whatever is free.
    pub memory: Bytes,
    /// No more is kept on disk, for hosts that reboot; zero keeps nothing there.
    pub disk: Bytes,
}

/// The images of one memory file system.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    dir: PathBuf,
    policy: Retain,
    disk: Option<Arc<Disk>>,
}

impl Images {
    pub(crate) fn new(memory: &Path, policy: Retain) -> Self {
        Self { dir: memory.join(FOLDER), policy, disk: None }
    }

    /// Copies of images go to this folder too, if the policy allows for any.
    pub(crate) fn on_disk(mut self, dir: &Path) -> Result<Self, VmmError> {
        if self.policy.disk.0 > 0 && !self.policy.age.is_zero() {
            let Retain { age, disk, .. } = self.policy;
            self.disk = Some(Arc::new(Disk::open(dir, disk.0, age)?));
        }
        Ok(self)
    }

    fn path(&self, vm: VmId, block: &str) -> PathBuf {
        self.dir.join(name(vm, block))
    }

    /// Keeps a block's file, of which the policy allows to keep it; removes it otherwise.
    pub(crate) fn keep(&self, vm: VmId, row: &BlockPlacement) -> Result<(), VmmError> {
        self.expire();
        let fits = row.length <= self.policy.memory.0;
        if self.policy.age.is_zero() || !fits || !row.file.exists() {
            return dirs::absent(fs::remove_file(&row.file))
                .map_err(VmmError::io("remove memory file", &row.file));
        }
        while self.size().0 + row.length > self.policy.memory.0 && self.drop_oldest() {}
        dirs::private(&self.dir)?;
        let path = self.path(vm, &row.block);
        fs::rename(&row.file, &path).map_err(VmmError::io("keep memory file", &row.file))?;
        self.copy_to_disk(name(vm, &row.block), &path);
        Ok(())
    }

    /// In a thread of its own. Should the VM return meanwhile, the copy is of no age at all;
    /// it is hashed like any other.
    fn copy_to_disk(&self, name: String, path: &Path) {
        let Some(disk) = self.disk.clone() else { return };
        let image = match File::open(path) {
            Ok(image) => image,
            Err(error) => return tracing::warn!(%error, "a retained image is not on disk"),
        };
        thread::spawn(move || {
            if let Err(error) = disk.keep(&name, &image) {
                tracing::warn!(%error, "a retained image is not on disk");
            }
        });
    }

    /// Fills the instance's fresh file from the image on disk, if there is one; whether there
    /// is. What cannot be read is left out: it will be sent.
    pub(crate) fn fill(&self, vm: VmId, row: &BlockPlacement) -> bool {
        let Some(disk) = &self.disk else { return false };
        let open = OpenOptions::new().read(true).write(true).open(&row.file);
        open.and_then(|file| disk.fill(&name(vm, &row.block), &file)).unwrap_or_else(|error| {
            tracing::warn!(%vm, %error, "a retained image on disk cannot be read");
            true
        })
    }

    /// Makes the image of a block the instance's file, if there is one of the right size.
    pub(crate) fn take(&self, vm: VmId, row: &BlockPlacement) -> Result<bool, VmmError> {
        self.expire();
        let path = self.path(vm, &row.block);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == row.length => {
                fs::rename(&path, &row.file).map_err(VmmError::io("take memory file", &path))?;
                Ok(true)
            }
            Ok(_) => {
                tracing::warn!(%vm, "a retained image does not fit the VM, and is not used");
                self.drop_of(vm, row)?;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// Removes the image of a block.
    pub(crate) fn drop_of(&self, vm: VmId, row: &BlockPlacement) -> Result<(), VmmError> {
        let path = self.path(vm, &row.block);
        if let Some(disk) = &self.disk {
            disk.remove(&name(vm, &row.block)).map_err(VmmError::io("remove image", &path))?;
        }
        dirs::absent(fs::remove_file(&path)).map_err(VmmError::io("remove memory file", &path))
    }

    /// Bytes of memory that the images take.
    pub(crate) fn size(&self) -> Bytes {
        // Blocks are always counted in units of 512 bytes here.
        Bytes(self.list().iter().map(|(_, found)| found.blocks() * 512).sum())
    }

    /// Removes what is older than it may be.
    pub(crate) fn expire(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for (path, found) in self.list() {
            // Renaming a file is its last change.
            let since = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0));
            if now.saturating_sub(since) >= self.policy.age {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Makes room; whether there was anything to be removed.
    pub(crate) fn drop_oldest(&self) -> bool {
        let list = self.list();
        let oldest = list.iter().min_by_key(|(_, found)| (found.ctime(), found.ctime_nsec()));
        oldest.is_some_and(|(path, _)| fs::remove_file(path).is_ok())
    }

    fn list(&self) -> Vec<(PathBuf, Metadata)> {
        let read = || -> io::Result<Vec<(PathBuf, Metadata)>> {
            fs::read_dir(&self.dir)?
                .map(|entry| entry.and_then(|e| Ok((e.path(), e.metadata()?))))
                .collect()
        };
        read().unwrap_or_default()
    }
}

/// Opaque: whoever reads the folder learns of no VM.
fn name(vm: VmId, block: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("godwit retained image's name");
    hasher.update(vm.0.as_bytes()).update(block.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Retain =
        Retain { age: Duration::from_secs(60), memory: Bytes(16384), disk: Bytes(0) };

    fn vm(n: u128) -> VmId {
        VmId(uuid::Uuid::from_u128(n))
    }

    fn row(dir: &Path, name: &str, length: u64) -> BlockPlacement {
        BlockPlacement { block: "pc.ram".into(), file: dir.join(name), offset: 0, length }
    }

    #[test]
    fn an_image_is_its_vms_own_and_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::new(dir.path(), POLICY);
        let left = row(dir.path(), "left", 8192);
        fs::write(&left.file, [7; 8192]).unwrap();
        images.keep(vm(1), &left).unwrap();
        assert!(!left.file.exists());
        let back = row(dir.path(), "back", 8192);
        assert!(!images.take(vm(2), &back).unwrap(), "another VM's");
        assert!(images.take(vm(1), &back).unwrap());
        assert_eq!(fs::read(&back.file).unwrap(), [7; 8192]);
        assert!(!images.take(vm(1), &row(dir.path(), "again", 8192)).unwrap());
        // One of another length, truncated say, is refused and gone.
        images.keep(vm(1), &back).unwrap();
        assert!(!images.take(vm(1), &row(dir.path(), "longer", 12288)).unwrap());
        assert!(!images.take(vm(1), &row(dir.path(), "back", 8192)).unwrap());
        // What an attempt that ended early left is nobody's: keeping nothing is fine.
        images.keep(vm(1), &back).unwrap();
    }

    #[test]
    fn the_policy_bounds_memory_and_age() {
        let dir = tempfile::tempdir().unwrap();
        let keep = |images: &Images, n: u128| {
            let row = row(dir.path(), &format!("left{n}"), 8192);
            fs::write(&row.file, [7; 8192]).unwrap();
            images.keep(vm(n), &row).unwrap();
        };
        let images = Images::new(dir.path(), POLICY);
        (1..=3).for_each(|n| keep(&images, n));
        assert_eq!(images.list().len(), 2);
        assert!(!images.take(vm(1), &row(dir.path(), "x", 8192)).unwrap(), "the oldest went");
        assert!(images.drop_oldest() && images.drop_oldest() && !images.drop_oldest());
        keep(&images, 4);
        let none = Images::new(dir.path(), Retain { age: Duration::ZERO, ..POLICY });
        assert!(!none.take(vm(4), &row(dir.path(), "y", 8192)).unwrap(), "too old");
        keep(&none, 5);
        assert_eq!(none.list().len(), 0);
        assert!(!dir.path().join("left5").exists());
    }
}
