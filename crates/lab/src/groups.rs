//! Control groups that were made for a lab's VMs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::proc;

const ROOT: &str = "/sys/fs/cgroup";
/// The directory, at any depth, below which Godwit makes groups.
const OURS: &str = "godwit";

/// The groups of a process that Godwit made, as directories.
pub(crate) fn of(pid: u32) -> BTreeSet<PathBuf> {
    proc::cgroups(pid)
        .iter()
        .filter_map(|(controllers, path)| directory(controllers, path))
        .collect()
}

/// The directory of a group of Godwit's; `None` for another's.
fn directory(controllers: &str, path: &str) -> Option<PathBuf> {
    let group = Path::new(path);
    group.components().any(|c| c.as_os_str() == OURS).then_some(())?;
    let hierarchy = match controllers.strip_prefix("name=") {
        Some(name) => name,
        None => controllers,
    };
    let inside = path.trim_start_matches('/');
    let candidates = if hierarchy.is_empty() {
        vec![Path::new(ROOT).to_owned(), Path::new(ROOT).join("unified")]
    } else {
        vec![Path::new(ROOT).join(hierarchy)]
    };
    candidates.into_iter().map(|root| root.join(inside)).find(|dir| dir.is_dir())
}

/// Removes groups that have become empty, and their parents as far as Godwit made
/// them and nobody else's are in them; what could not be removed.
pub(crate) fn remove(groups: &BTreeSet<PathBuf>, deadline: Instant) -> Vec<String> {
    let mut left = Vec::new();
    // Deeper ones come later in the order of paths.
    for group in groups.iter().rev() {
        // The kernel may take a moment to let go of an ended process.
        while group.is_dir() && fs::remove_dir(group).is_err() {
            if Instant::now() > deadline {
                left.push(format!("control group {}", group.display()));
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let parents = group.ancestors().skip(1);
        for parent in parents.take_while(|p| p.components().any(|c| c.as_os_str() == OURS)) {
            // Fails while another VM's group is in it.
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_godwit_are_found() {
        assert_eq!(directory("cpu", "/user.slice"), None);
        assert_eq!(directory("", "/godwit-like"), None);
        assert_eq!(directory("", "/godwit/no-such-vm"), None);
        assert_eq!(of(std::process::id()), BTreeSet::new());
    }
}
