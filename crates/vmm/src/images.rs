//! From a pool and a file to a path that lies in the pool.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use types::{DiskSpec, FileName, Firmware, ImageRef, PoolName, VmSpec};

use crate::{HostConfig, VmmError};

/// The files of a VM, as QEMU opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initrd: Option<PathBuf>,
    /// UEFI variables; perhaps not there yet.
    pub(crate) vars: Option<PathBuf>,
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
    /// A block device rather than a file.
    pub(crate) device: bool,
}

impl Images {
    /// Finds all files of a spec.
    ///
    /// # Errors
    /// The first pool or file that is not here, and why.
    pub(crate) fn find(config: &HostConfig, spec: &VmSpec) -> Result<Self, VmmError> {
        let pools = &config.pools;
        let image = |image: &ImageRef| path(pools, &image.pool, &image.file);
        let boot = spec.boot.as_ref();
        let vars = match &spec.firmware {
            Firmware::Bios => None,
            Firmware::Uefi(uefi) => Some(place(pools, &uefi.vars)?),
        };
        let disk = |disk: &DiskSpec| find_disk(config, disk);
        Ok(Self {
            kernel: boot.map(|boot| image(&boot.kernel)).transpose()?,
            initrd: boot.and_then(|boot| boot.initrd.as_ref()).map(image).transpose()?,
            vars,
            disks: spec.disks.iter().map(disk).collect::<Result<_, VmmError>>()?,
        })
    }
}

fn find_disk(config: &HostConfig, disk: &DiskSpec) -> Result<DiskFile, VmmError> {
    let (path, device) = match config.device_pools.get(&disk.pool) {
        Some(folder) => (device(folder, &disk.pool, &disk.file)?, true),
        None => (path(&config.pools, &disk.pool, &disk.file)?, false),
    };
    let direct = opens_directly(&path)?;
    Ok(DiskFile { path, direct, device })
}

/// The block device that a folder of devices knows under a name. Such folders are
/// full of links that lead out of them.
fn device(folder: &Path, pool: &PoolName, file: &FileName) -> Result<PathBuf, VmmError> {
    let what = || format!("device {file} of pool {pool}");
    let found = folder.join(file.as_str()).canonicalize().map_err(|e| {
        VmmError::missing(what(), format!("not in {} on this host: {e}", folder.display()))
    })?;
    let block = found.metadata().is_ok_and(|m| m.file_type().is_block_device());
    if !block {
        return Err(VmmError::missing(what(), "is no block device"));
    }
    Ok(found)
}

/// A pool's folder.
fn root(pools: &BTreeMap<PoolName, PathBuf>, pool: &PoolName) -> Result<PathBuf, VmmError> {
    let directory = pools.get(pool).ok_or_else(|| {
        VmmError::missing(format!("pool {pool}"), "this host has no such pool: configure it")
    })?;
    directory.canonicalize().map_err(|e| {
        VmmError::missing(format!("pool {pool}"), format!("{}: {e}", directory.display()))
    })
}

/// Where a file of a pool is or will be.
fn place(pools: &BTreeMap<PoolName, PathBuf>, image: &ImageRef) -> Result<PathBuf, VmmError> {
    let place = root(pools, &image.pool)?.join(image.file.as_str());
    if place.symlink_metadata().is_ok() {
        return path(pools, &image.pool, &image.file);
    }
    Ok(place)
}

/// The real path of a pool's file; links that lead out of the pool are refused.
fn path(
    pools: &BTreeMap<PoolName, PathBuf>,
    pool: &PoolName,
    file: &FileName,
) -> Result<PathBuf, VmmError> {
    let root = root(pools, pool)?;
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
pub(crate) fn opens_directly(path: &Path) -> Result<bool, VmmError> {
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
        // A file that is still to be made has its place; one that leads out has none.
        let image = |file: &str| ImageRef { pool: name.clone(), file: file.parse().unwrap() };
        assert_eq!(place(&pools, &image("new")).unwrap(), pool.canonicalize().unwrap().join("new"));
        assert!(place(&pools, &image("leak")).is_err());
    }

    #[test]
    fn a_pool_of_devices_holds_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (pool, file) = ("luns".parse().unwrap(), |f: &str| f.parse::<FileName>().unwrap());
        std::fs::write(dir.path().join("plain"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("null")).unwrap();
        for (name, part) in [("plain", "no block device"), ("null", "no block"), ("x", "not in")] {
            let error = device(dir.path(), &pool, &file(name)).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
