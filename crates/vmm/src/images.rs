//! From a pool and a file to a path that lies in the pool.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use types::{FileName, ImageRef, PoolName, VmSpec};

use crate::VmmError;

/// The files of a VM, as QEMU opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initrd: Option<PathBuf>,
    /// In the order of the spec's disks.
    pub(crate) disks: Vec<DiskFile>,
}

/// A disk's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskFile {
    pub(crate) path: PathBuf,
    /// Whether its file system lets one by-pass the page cache. Where it does not,
    /// the hosts of a VM must share the cache too, as they do on one machine.
    pub(crate) direct: bool,
}

impl Images {
    /// Finds all files of a spec.
    ///
    /// # Errors
    /// The first pool or file that is not here, and why.
    pub(crate) fn find(
        pools: &BTreeMap<PoolName, PathBuf>,
        spec: &VmSpec,
    ) -> Result<Self, VmmError> {
        let image = |image: &ImageRef| path(pools, &image.pool, &image.file);
        let boot = spec.boot.as_ref();
        let disk = |disk: &types::DiskSpec| {
            let path = path(pools, &disk.pool, &disk.file)?;
            let direct = opens_directly(&path)?;
            Ok(DiskFile { path, direct })
        };
        Ok(Self {
            kernel: boot.map(|boot| image(&boot.kernel)).transpose()?,
            initrd: boot.and_then(|boot| boot.initrd.as_ref()).map(image).transpose()?,
            disks: spec.disks.iter().map(disk).collect::<Result<_, VmmError>>()?,
        })
    }
}

/// The real path of a pool's file; links that lead out of the pool are refused.
fn path(
    pools: &BTreeMap<PoolName, PathBuf>,
    pool: &PoolName,
    file: &FileName,
) -> Result<PathBuf, VmmError> {
    let directory = pools.get(pool).ok_or_else(|| {
        VmmError::missing(format!("pool {pool}"), "this host has no such pool: configure it")
    })?;
    let root = directory.canonicalize().map_err(|e| {
        VmmError::missing(format!("pool {pool}"), format!("{}: {e}", directory.display()))
    })?;
    let what = || format!("file {file} of pool {pool}");
    let found = root.join(file.as_str()).canonicalize().map_err(|e| {
        VmmError::missing(what(), format!("not in {} on this host: {e}", root.display()))
    })?;
    if !found.starts_with(&root) {
        return Err(VmmError::missing(what(), "is a link that leads out of the pool"));
    }
    if found.is_dir() {
        return Err(VmmError::missing(what(), "is a directory"));
    }
    Ok(found)
}

/// Opens a disk as QEMU will.
fn opens_directly(path: &Path) -> Result<bool, VmmError> {
    let open = |flags: rustix::fs::OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    open(rustix::fs::OFlags::empty()).map_err(VmmError::io("open disk", path))?;
    Ok(open(rustix::fs::OFlags::DIRECT).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_their_pool_only() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("pool");
        std::fs::create_dir_all(pool.join("inner")).unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        std::fs::write(pool.join("disk"), "").unwrap();
        std::os::unix::fs::symlink("disk", pool.join("alias")).unwrap();
        std::os::unix::fs::symlink("../secret", pool.join("leak")).unwrap();
        std::os::unix::fs::symlink("/dev/null", pool.join("absolute")).unwrap();
        let name: PoolName = "images".parse().unwrap();
        let pools = BTreeMap::from([(name.clone(), pool.clone())]);
        let real = pool.canonicalize().unwrap().join("disk");
        for (file, expected) in [
            ("disk", Ok(())),
            ("alias", Ok(())),
            ("leak", Err("leads out")),
            ("absolute", Err("leads out")),
            ("inner", Err("directory")),
            ("none", Err("not in")),
        ] {
            match (path(&pools, &name, &file.parse().unwrap()), expected) {
                (Ok(found), Ok(())) => assert_eq!(found, real),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{file}: {error}");
                }
                (found, _) => panic!("{file}: {found:?}"),
            }
        }
        let error = path(&pools, &"other".parse().unwrap(), &"disk".parse().unwrap());
        assert!(error.unwrap_err().to_string().contains("no such pool"));
        assert!(opens_directly(&real).is_ok());
    }
}
