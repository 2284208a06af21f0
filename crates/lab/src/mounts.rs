//! What a host sees of the file system: of the lab only its own directory and
//! the pools, and a `/sys` that shows its own network.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_remount, move_mount, open_tree,
};
use serde::{Deserialize, Serialize};

use crate::LabError;

/// What stays visible of a lab directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    /// The lab directory: everything in it disappears.
    pub(crate) lab: PathBuf,
    /// Directories in it that appear again, writable.
    pub(crate) writable: Vec<PathBuf>,
    /// Directories in it that appear again, read-only.
    pub(crate) readable: Vec<PathBuf>,
}

/// Narrows the calling process's mount namespace, which must be its own.
pub(crate) fn enter(view: &View) -> Result<(), LabError> {
    let kept = view.writable.iter().chain(&view.readable);
    let trees = kept.map(|dir| Ok((dir, take(dir)?))).collect::<Result<Vec<_>, LabError>>()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("gw-lab", &view.lab, "tmpfs", flags, Some(c"size=1m,mode=0755"))
        .map_err(LabError::system(format!("hide {}", view.lab.display())))?;
    for (dir, tree) in trees {
        fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
        put(&tree, dir)?;
    }
    for dir in &view.readable {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(dir, flags, "")
            .map_err(LabError::system(format!("make {} read-only", dir.display())))?;
    }
    own_sys()
}

/// Mounts the `/sys` of this network namespace; the control groups stay in it.
fn own_sys() -> Result<(), LabError> {
    let groups = Path::new("/sys/fs/cgroup");
    let tree = groups.exists().then(|| take(groups)).transpose()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("gw-lab", "/sys", "sysfs", flags, None)
        .map_err(LabError::system("mount the namespace's own /sys"))?;
    tree.map_or(Ok(()), |tree| put(&tree, groups))
}

/// A copy of the mounts at and under a directory.
fn take(dir: &Path) -> Result<OwnedFd, LabError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, dir, flags).map_err(LabError::system(format!("take hold of {}", dir.display())))
}

fn put(tree: &OwnedFd, dir: &Path) -> Result<(), LabError> {
    move_mount(tree, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(LabError::system(format!("mount {}", dir.display())))
}

/// Mount points at or under a directory, deepest first, of this namespace.
pub(crate) fn under(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    parse_under(&text, dir)
}

fn parse_under(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(dir))
        .collect();
    found.reverse();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Mount tables write space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_under_a_directory_come_deepest_first() {
        let table = "1 0 8:1 / / rw - ext4 a rw\n\
                     2 1 0:1 / /var/tmp/lab rw - tmpfs a rw\n\
                     3 1 0:1 / /var/tmp/lab-other rw - tmpfs a rw\n\
                     4 1 0:1 / /var/tmp/lab/x\\040y/z rw - tmpfs a rw\n";
        let found = parse_under(table, Path::new("/var/tmp/lab"));
        assert_eq!(found, [Path::new("/var/tmp/lab/x y/z"), Path::new("/var/tmp/lab")]);
    }
}
