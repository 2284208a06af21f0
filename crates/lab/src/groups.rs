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

/// Groups of the VMs that ever were on the hosts of a lab, whether a process is
/// left in them or not: agents keep a directory for each VM, named by its UUID.
pub(crate) fn of_vms(hosts: &Path) -> BTreeSet<PathBuf> {
    let vms: BTreeSet<String> =
        list(hosts).iter().flat_map(|host| list(&host.join("state/vms"))).map(name).collect();
    let mut roots = list(Path::new(ROOT));
    roots.push(ROOT.into());
    let groups = roots.iter().flat_map(|root| list(&root.join(OURS)));
    groups.filter(|group| vms.iter().any(|vm| is_of(&name(group.clone()), vm))).collect()
}

/// A VM's groups are named by its UUID and, after a hyphen, the instance.
fn is_of(group: &str, vm: &str) -> bool {
    vm.parse::<uuid::Uuid>().is_ok()
        && group.strip_prefix(vm).is_some_and(|instance| instance.starts_with('-'))
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn name(path: PathBuf) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
        let vm = "0192f0c0-0000-7000-8000-000000000001";
        assert!(is_of(&format!("{vm}-x1"), vm));
        assert!(!is_of(vm, vm) && !is_of("anything-x1", "anything"));
    }
}
