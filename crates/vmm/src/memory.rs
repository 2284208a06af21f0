//! Guest memory: files on a tmpfs of our own, or on a hugetlbfs.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statfs, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};
use types::{BlockPlacement, Bytes, VmId};

use crate::config::HugePages;
use crate::retained::{FOLDER, Images, Retain};
use crate::{VmmError, dirs};

/// The kernel's number of tmpfs.
const TMPFS: i64 = 0x0102_1994;

/// The kernel's number of hugetlbfs.
const HUGETLBFS: i64 = 0x9584_58f6;
/// What the kernel says of its huge pages of 2 MiB.
const KERNEL_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const HUGE: u64 = 2 << 20;

/// What the files lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A tmpfs of our own.
    Tmpfs,
    /// A plain directory, and a size to keep to because the file system does not.
    Plain(Bytes),
    /// A hugetlbfs of our own.
    Huge,
}

/// The place of guest memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryStore {
    dir: PathBuf,
    kind: Kind,
    /// Files of VMs that have left; there are none of huge pages.
    images: Images,
}

impl MemoryStore {
    /// Mounts a tmpfs, adopts the one that is there, or takes the plain directory
    /// where mounting is not permitted.
    pub(crate) fn open(dir: &Path, size: Bytes, images: Images) -> Result<Self, VmmError> {
        dirs::private(dir)?;
        let store = |kind| Self { dir: dir.to_owned(), kind, images };
        if is_own(dir, TMPFS).map_err(VmmError::io("look at", dir))? {
            // It may have been made with another size; smaller than what is used is refused.
            if let Err(error) = mount_remount(dir, flags(), options(size, "")) {
                tracing::warn!(dir = %dir.display(), %error, "memory keeps its former size");
            }
            return Ok(store(Kind::Tmpfs));
        }
        let with = |extra| {
            let options = options(size, extra);
            mount("godwit-memory", dir, "tmpfs", flags(), options.as_c_str())
        };
        // Huge pages halve the cost of filling it; not every kernel has them here.
        match with(",huge=within_size").or_else(|_| with("")) {
            Ok(()) => Ok(store(Kind::Tmpfs)),
            Err(Errno::PERM | Errno::ACCESS) => {
                let dir_name = dir.display().to_string();
                tracing::warn!(dir = dir_name, "may not mount: guest memory is in plain files");
                Ok(store(Kind::Plain(size)))
            }
            Err(error) => Err(VmmError::io("mount a tmpfs on", dir)(error.into())),
        }
    }

    /// Mounts a hugetlbfs, or adopts the one that is there.
    pub(crate) fn open_huge(huge: &HugePages) -> Result<Self, VmmError> {
        let dir = &huge.dir;
        dirs::private(dir)?;
        let images =
            Images::new(dir, Retain { age: Duration::ZERO, memory: Bytes(0), disk: Bytes(0) });
        let store = Self { dir: dir.clone(), kind: Kind::Huge, images };
        if is_own(dir, HUGETLBFS).map_err(VmmError::io("look at", dir))? {
            return Ok(store);
        }
        let options = options(huge.size, ",pagesize=2M");
        mount("godwit-hugepages", dir, "hugetlbfs", flags(), options.as_c_str())
            .map_err(|error| VmmError::io("mount a hugetlbfs on", dir)(error.into()))?;
        Ok(store)
    }

    /// What is missing where the file system is not our own.
    pub(crate) fn lack(&self) -> Option<String> {
        let Kind::Plain(_) = self.kind else { return None };
        let dir = self.dir.display();
        let on_tmpfs = statfs(&self.dir).is_ok_and(|s| s.f_type == TMPFS);
        let what = if on_tmpfs { "others can fill it" } else { "it is no tmpfs, and slow" };
        Some(format!("no memory file system of its own: guest memory is in files of {dir}; {what}"))
    }

    /// The images of VMs that have left.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// Makes a block's file, or takes the VM's image for it, and reserves its space;
    /// whether it is an image.
    pub(crate) fn create_or_take(&self, vm: VmId, row: &BlockPlacement) -> Result<bool, VmmError> {
        if !self.images.take(vm, row)? {
            self.create(&row.file, Bytes(row.length))?;
            return Ok(self.images.fill(vm, row));
        }
        // Zero pages were holes in it.
        let fill = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(&row.file)?;
            Ok(fallocate(&file, FallocateFlags::empty(), 0, row.length)?)
        };
        while let Err(error) = fill() {
            if !self.images.drop_oldest() {
                self.remove(&row.file)?;
                return Err(VmmError::io("reserve memory file", &row.file)(error));
            }
        }
        Ok(true)
    }

    /// Makes a file and reserves its space. Images of VMs that have left go for it.
    pub(crate) fn create(&self, path: &Path, size: Bytes) -> Result<(), VmmError> {
        loop {
            match self.create_once(path, size) {
                Err(VmmError::NotEnoughMemory { .. }) if self.images.drop_oldest() => {}
                result => return result,
            }
        }
    }

    fn create_once(&self, path: &Path, size: Bytes) -> Result<(), VmmError> {
        let short = || {
            let (total, used) = self.usage();
            let (what, remedy) = self.scarce();
            VmmError::NotEnoughMemory {
                what,
                wanted: size,
                free: Bytes(total.0.saturating_sub(used.0)),
                total,
                remedy,
            }
        };
        let (total, used) = self.usage();
        let taken = used.0 + self.images.size().0;
        if matches!(self.kind, Kind::Plain(_)) && taken.saturating_add(size.0) > total.0 {
            return Err(short());
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(VmmError::io("create memory file", path))?;
        let reserved = fallocate(&file, FallocateFlags::empty(), 0, size.0);
        reserved.map_err(|error| {
            let _ = fs::remove_file(path);
            match error {
                Errno::NOSPC | Errno::NOMEM | Errno::DQUOT => short(),
                error => VmmError::io("reserve memory file", path)(error.into()),
            }
        })
    }

    /// What there can be too little of, and what helps.
    fn scarce(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Huge => (
                "memory in huge pages of 2 MiB",
                "end or move VMs of this host, or raise hugepages_size and the kernel's \
                 vm.nr_hugepages",
            ),
            Kind::Tmpfs | Kind::Plain(_) => {
                ("memory for VMs", "end or move VMs of this host, or raise memory_size")
            }
        }
    }

    /// Removes a file; fine if there is none.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), VmmError> {
        dirs::absent(fs::remove_file(path)).map_err(VmmError::io("remove memory file", path))
    }

    /// The files that are there.
    pub(crate) fn list(&self) -> io::Result<Vec<PathBuf>> {
        let all: io::Result<Vec<PathBuf>> =
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect();
        Ok(all?.into_iter().filter(|path| !path.ends_with(FOLDER)).collect())
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of an instance's file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// How much there is, and how much of it is taken: images count as free.
    pub(crate) fn usage(&self) -> (Bytes, Bytes) {
        if let Kind::Plain(limit) = self.kind {
            // Blocks are always counted in units of 512 bytes here.
            let blocks = |path: &PathBuf| fs::metadata(path).map_or(0, |m| m.blocks() * 512);
            let used = self.list().unwrap_or_default().iter().map(blocks).sum();
            return (limit, Bytes(used));
        }
        let Ok(stat) = statvfs(&self.dir) else { return (Bytes(0), Bytes(0)) };
        let used = stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize;
        let total = stat.f_blocks * stat.f_frsize;
        if self.kind == Kind::Huge {
            // The file system promises what the kernel may not have.
            return (Bytes(total.min(used.saturating_add(free_huge()))), Bytes(used));
        }
        (Bytes(total), Bytes(used.saturating_sub(self.images.size().0)))
    }
}

/// Bytes in huge pages that nobody has or was promised.
fn free_huge() -> u64 {
    let pages = |name: &str| {
        let text = fs::read_to_string(Path::new(KERNEL_PAGES).join(name)).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    pages("free_hugepages").saturating_sub(pages("resv_hugepages")).saturating_mul(HUGE)
}

/// Whether `dir` is itself the root of a file system of that kind.
fn is_own(dir: &Path, kind: i64) -> io::Result<bool> {
    let parent = dir.join("..");
    let mounted = fs::metadata(dir)?.dev() != fs::metadata(parent)?.dev();
    Ok(mounted && statfs(dir)?.f_type == kind)
}

fn flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

fn options(size: Bytes, extra: &str) -> CString {
    // Digits and our own words: there is no NUL in them.
    CString::new(format!("mode=0700,size={}{extra}", size.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustix::mount::{UnmountFlags, unmount};

    use super::*;

    const RETAIN: Retain =
        Retain { age: Duration::from_secs(60), memory: Bytes(1 << 30), disk: Bytes(0) };

    fn images(dir: &Path) -> Images {
        Images::new(dir, RETAIN)
    }

    #[test]
    fn images_go_first_when_memory_is_short() {
        let dir = Mounted(tempfile::tempdir().unwrap());
        let store = MemoryStore::open(dir.0.path(), Bytes::mib(8), images(dir.0.path())).unwrap();
        let vm = VmId(uuid::Uuid::from_u128(1));
        let row = |name: &str, mib: u64| BlockPlacement {
            block: "pc.ram".into(),
            file: store.path(name),
            offset: 0,
            length: mib << 20,
        };
        let (left, back, other) = (row("left", 4), row("back", 4), row("other", 6));
        assert!(!store.create_or_take(vm, &left).unwrap());
        store.images().keep(vm, &left).unwrap();
        assert_eq!(store.usage().1, Bytes(0), "it counts as free");
        assert!(store.create_or_take(vm, &back).unwrap());
        assert_eq!(store.usage().1, Bytes::mib(4));
        store.images().keep(vm, &back).unwrap();
        assert!(store.list().unwrap().is_empty());
        store.create(&other.file, Bytes(other.length)).unwrap();
        assert_eq!((store.usage().1, store.images().size()), (Bytes::mib(6), Bytes(0)));
    }

    #[test]
    fn an_image_on_disk_outlives_the_memory_file_system() {
        let disk = tempfile::tempdir().unwrap();
        let open = |dir: &Path| {
            let policy = Retain { disk: Bytes(1 << 30), ..RETAIN };
            let images = Images::new(dir, policy).on_disk(disk.path()).unwrap();
            MemoryStore::open(dir, Bytes::mib(8), images).unwrap()
        };
        let vm = VmId(uuid::Uuid::from_u128(1));
        let row = |store: &MemoryStore| BlockPlacement {
            block: "pc.ram".into(),
            file: store.path("m"),
            offset: 0,
            length: 1 << 20,
        };
        let content: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 13) as u8).collect();
        {
            let dir = Mounted(tempfile::tempdir().unwrap());
            let store = open(dir.0.path());
            let row = row(&store);
            assert!(!store.create_or_take(vm, &row).unwrap());
            fs::write(&row.file, &content).unwrap();
            store.images().keep(vm, &row).unwrap();
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while fs::read_dir(disk.path()).unwrap().flatten().all(|e| e.file_name().len() < 32) {
                assert!(std::time::Instant::now() < until);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Another boot: memory is empty.
        let dir = Mounted(tempfile::tempdir().unwrap());
        let store = open(dir.0.path());
        let row = row(&store);
        assert!(store.create_or_take(vm, &row).unwrap());
        assert!(fs::read(&row.file).unwrap() == content);
        store.remove(&row.file).unwrap();
        // A VM that boots anew has no use for it.
        store.images().drop_of(vm, &row).unwrap();
        assert!(!store.create_or_take(vm, &row).unwrap());
    }

    struct Mounted(tempfile::TempDir);

    impl Drop for Mounted {
        fn drop(&mut self) {
            while unmount(self.0.path(), UnmountFlags::DETACH).is_ok() {}
        }
    }

    #[test]
    fn a_full_store_says_so_and_keeps_nothing() {
        let dir = Mounted(tempfile::tempdir().unwrap());
        let store = MemoryStore::open(dir.0.path(), Bytes::mib(8), images(dir.0.path())).unwrap();
        let (a, b) = (store.path("a"), store.path("b"));
        store.create(&a, Bytes::mib(6)).unwrap();
        assert_eq!(fs::metadata(&a).unwrap().mode() & 0o777, 0o600);
        let error = store.create(&b, Bytes::mib(4)).unwrap_err();
        assert!(error.to_string().starts_with("not enough memory"), "{error}");
        assert_eq!(store.list().unwrap(), vec![a.clone()]);
        assert_eq!(store.usage(), (Bytes::mib(8), Bytes::mib(6)));
        // Adopted with what is in it, and with its new size.
        let store = MemoryStore::open(dir.0.path(), Bytes::mib(12), images(dir.0.path())).unwrap();
        store.create(&b, Bytes::mib(4)).unwrap();
        assert!(matches!(store.create(&b, Bytes::mib(2)), Err(VmmError::Io { .. })));
        for path in [&a, &b, &b] {
            store.remove(path).unwrap();
        }
        assert_eq!(store.usage(), (Bytes::mib(12), Bytes(0)));
    }

    #[test]
    fn a_plain_directory_keeps_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let kind = Kind::Plain(Bytes::mib(4));
        let images = images(dir.path());
        let store = MemoryStore { dir: dir.path().to_owned(), kind, images };
        store.create(&store.path("a"), Bytes::mib(2)).unwrap();
        let error = store.create(&store.path("b"), Bytes::mib(4)).unwrap_err();
        assert!(matches!(error, VmmError::NotEnoughMemory { .. }), "{error}");
    }
}
