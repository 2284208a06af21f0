//! A guest's memory file, written to from outside.
//!
//! By writing where the file system allows it, because a full one is then an error
//! and no signal. A hugetlbfs does not: there the file is mapped, and its pages were
//! reserved when it was made.
#![allow(unsafe_code, reason = "a mapping is the only way to write to a hugetlbfs")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The kernel's number of hugetlbfs.
const HUGETLBFS: i64 = 0x9584_58f6;

/// An open memory file.
pub(crate) enum Memory {
    File(File),
    Mapped(Mapping),
}

impl Memory {
    /// Opens a file, and says how long it is.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        if fstatfs(&file)?.f_type as i64 != HUGETLBFS {
            return Ok((Self::File(file), length));
        }
        Ok((Self::Mapped(Mapping::new(&file, length)?), length))
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all_at(bytes, offset),
            Self::Mapped(mapping) => {
                mapping.part(offset, bytes.len() as u64)?.copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Fills `bytes` from `offset` on.
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(bytes, offset),
            Self::Mapped(mapping) => {
                bytes.copy_from_slice(mapping.look(offset, bytes.len() as u64)?);
                Ok(())
            }
        }
    }

    /// Makes `length` bytes at `offset` zeros.
    pub(crate) fn clear(&mut self, offset: u64, length: u64) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                Ok(fallocate(&*file, flags, offset, length)?)
            }
            Self::Mapped(mapping) => {
                mapping.part(offset, length)?.fill(0);
                Ok(())
            }
        }
    }
}

/// A file as memory of this process; gone when dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, wherever it is.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { start, length })
    }

    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length as u64);
        end.map(|_| ()).ok_or_else(|| io::Error::other("beyond the end of the memory file"))
    }

    fn look(&self, offset: u64, length: u64) -> io::Result<&[u8]> {
        self.check(offset, length)?;
        // SAFETY: as in `part`.
        Ok(unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().add(offset as usize), length as usize)
        })
    }

    fn part(&mut self, offset: u64, length: u64) -> io::Result<&mut [u8]> {
        self.check(offset, length)?;
        // SAFETY: the range lies in the mapping, which lives as long as `self`. The
        // file's only other user is a QEMU that is not executing its guest yet.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(
                self.start.as_ptr().add(offset as usize),
                length as usize,
            )
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same must hold of both; a mapping works on any file system.
    #[test]
    fn what_is_written_is_there_and_nothing_beyond_the_end() {
        let dir = tempfile::tempdir().unwrap();
        for mapped in [false, true] {
            let path = dir.path().join(format!("memory-{mapped}"));
            std::fs::write(&path, vec![7u8; 3 * 4096]).unwrap();
            let (mut memory, length) = Memory::open(&path).unwrap();
            assert_eq!(length, 3 * 4096);
            if mapped {
                let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
                memory = Memory::Mapped(Mapping::new(&file, length).unwrap());
                assert!(memory.write(&[1; 4096], 3 * 4096 - 1).is_err());
                assert!(memory.clear(u64::MAX, 2).is_err());
            }
            memory.write(&[9; 4096], 4096).unwrap();
            memory.clear(2 * 4096, 4096).unwrap();
            drop(memory);
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes[..4096] == [7; 4096] && bytes[4096..8192] == [9; 4096]);
            assert!(bytes[8192..] == [0; 4096]);
        }
    }
}
