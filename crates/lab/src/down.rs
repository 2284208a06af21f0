//! Taking a lab down, from whatever state it is in, and making sure of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::proc::{Seen, scan};
use crate::state::{Lock, State};
use crate::{LabError, groups, mounts, net, up};

/// Everything must be gone after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a lab: its processes and everything that lives in its namespaces, links,
/// mounts, control groups and files. Nothing to do is no error; something that
/// could not be removed is, and then `down` can be called again.
pub fn down(dir: &Path) -> Result<(), LabError> {
    up::check_machine()?;
    let dir = match dir.canonicalize() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(LabError::file("find", dir))?,
    };
    let _lock = Lock::take(&dir)?;
    let Some(state) = State::read(&dir)? else {
        // All that is left where `up` was stopped at its very beginning, or `down` at
        // its very end.
        State::remove(&dir)?;
        return fs::remove_dir(&dir).map_err(|_| LabError::NotUp { dir });
    };
    remove(&dir, &state)
}

/// Removes everything of a lab and looks whether it is gone.
pub(crate) fn remove(dir: &Path, state: &State) -> Result<(), LabError> {
    let mut left = Vec::new();
    if state.same_boot() {
        left.extend(end_processes(dir, state));
        // What follows would fail, or hide from the next `down` what it must find.
        if !left.is_empty() {
            return Err(LabError::Left { left });
        }
        left.extend(remove_network(state));
    }
    for point in mounts::under(dir) {
        if let Err(e) = unmount(&point, UnmountFlags::DETACH) {
            left.push(format!("mount {}: {e}", point.display()));
        }
    }
    if !left.is_empty() {
        return Err(LabError::Left { left });
    }
    remove_files(dir)?;
    State::remove(dir)?;
    fs::remove_dir(dir).map_err(LabError::file("remove", dir))
}

/// The lab's processes: by the marker they inherited, by the namespace they live
/// in, and supervisors by identity. Never this one and those it descends from.
pub(crate) fn members(state: &State) -> Vec<Seen> {
    let namespaces: Vec<_> = state.namespaces.iter().filter_map(|n| n.current()).collect();
    let kin = ancestors();
    scan()
        .into_iter()
        .filter(|seen| {
            seen.marker.as_ref() == Some(&state.id)
                || seen.net.is_some_and(|net| namespaces.contains(&net))
                || state.supervisors.iter().any(|s| s.process == seen.id)
        })
        .filter(|seen| !kin.contains(&seen.id.pid))
        .collect()
}

fn ancestors() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 1 && found.insert(pid) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent.and_then(|p| p.trim().parse().ok()).unwrap_or(0);
    }
    found
}

/// Ends every process of the lab; what could not be ended.
fn end_processes(dir: &Path, state: &State) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen_groups: BTreeSet<PathBuf> = BTreeSet::new();
    // Supervisors first: they would start again what ends.
    for supervisor in &state.supervisors {
        let _ = supervisor.process.signal(Signal::KILL);
    }
    loop {
        let left = members(state);
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let name =
                |seen: &Seen| format!("process {}: {}", seen.id.pid, seen.arguments.join(" "));
            return left.iter().map(name).collect();
        }
        for seen in &left {
            seen_groups.extend(groups::of(seen.id.pid));
            let _ = seen.id.signal(Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen_groups.extend(groups::of_vms(&dir.join("hosts")));
    groups::remove(&seen_groups, deadline)
}

/// Removes links and namespaces; what could not be removed.
fn remove_network(state: &State) -> Vec<String> {
    let mut left = Vec::new();
    for link in &state.links {
        if let Err(e) = net::delete_link(link) {
            left.push(format!("interface {link}: {e}"));
        }
    }
    for namespace in &state.namespaces {
        if let Err(e) = net::delete_namespace(namespace) {
            left.push(format!("network namespace {}: {e}", namespace.name));
        } else if namespace.current().is_some() {
            left.push(format!("network namespace {}", namespace.name));
        }
    }
    left
}

/// Removes what the directory holds except the state file, which goes last.
fn remove_files(dir: &Path) -> Result<(), LabError> {
    for entry in fs::read_dir(dir).map_err(LabError::file("read", dir))? {
        let entry = entry.map_err(LabError::file("read", dir))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("lab.json") {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(LabError::file("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::proc::{MARKER, NamespaceId};
    use crate::state::{Namespace, Supervisor};
    use crate::{Identity, Plan};

    /// A state that names a process and a namespace which are not the lab's.
    fn misleading(pid: u32) -> State {
        let mut state = State::new(Plan::new(209, 1).unwrap(), None, false);
        let mut process = Identity::of(pid).unwrap();
        process.started -= 1;
        state.supervisors.push(Supervisor { name: "controller".into(), process });
        // Stands for another namespace now than when it was recorded.
        let name = format!("../../proc/{pid}/ns/net");
        state.namespaces.push(Namespace { name, id: NamespaceId::of("/proc/self/ns/mnt") });
        state
    }

    #[test]
    fn what_is_not_the_labs_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("60").env(MARKER, "another").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let lab = dir.path().join("lab");
        for boot in [None, Some("another boot")] {
            let mut state = misleading(child.id());
            if let Some(boot) = boot {
                // Then even a true identity means nothing.
                state.boot = boot.into();
                state.supervisors[0].process = identity;
            }
            fs::create_dir_all(lab.join("logs")).unwrap();
            state.write(&lab).unwrap();
            remove(&lab, &state).unwrap();
            assert!(identity.alive() && !lab.exists());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn only_a_lab_s_directory_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("thesis.txt");
        fs::write(&file, "x").unwrap();
        assert!(matches!(down(dir.path()), Err(LabError::NotUp { .. })));
        assert!(file.exists());
        fs::remove_file(file).unwrap();
        down(dir.path()).unwrap();
        assert!(!dir.path().exists());
        down(dir.path()).unwrap();
    }
}
