//! Bugs planted into a copy of the project, to see that chaos catches them. All are
//! in the shell that performs decisions, where no model checker looks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::check::cargo;
use crate::proc;

/// A change of one place in one file.
#[derive(Debug)]
struct Bug {
    name: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
}

/// The bugs, each a classic.
const BUGS: &[Bug] = &[
    // A source that takes its carrier's closed socket for a failed migration.
    Bug {
        name: "resume-on-close",
        file: "crates/agent/src/outgoing.rs",
        find: "Input::CarrierGone => {",
        replace: "Input::CarrierGone => {
                if let Ok(qmp) = self.vm.qmp() {
                    self.tasks.spawn(async move { drop(qmp.cont().await) });
                }",
    },
    // A destination that starts what has arrived, and claims it then.
    Bug {
        name: "start-before-claim",
        file: "crates/agent/src/incoming/actions.rs",
        find: "Ok(migration) if migration.status == \"completed\" => {",
        replace: "Ok(migration) if migration.status == \"completed\" => {
                        let _ = qmp.cont().await;",
    },
    // A destination that takes a claim without an answer for one that succeeded.
    Bug {
        name: "claim-is-hope",
        file: "crates/agent/src/incoming/actions.rs",
        find: "(_, reply) => reply.map(|_| yes),",
        replace: "(_, _) => Ok(yes),",
    },
];

/// Names of all bugs.
pub(super) fn names() -> Vec<&'static str> {
    BUGS.iter().map(|bug| bug.name).collect()
}

/// Builds Godwit with one bug in it; the project itself stays as it is.
///
/// # Errors
/// There is no such bug, its place is not found, or it does not build.
pub(super) fn build(root: &Path, name: &str) -> Result<PathBuf> {
    let bug = BUGS
        .iter()
        .find(|bug| bug.name == name)
        .with_context(|| format!("no bug is called {name:?}; there are {}", names().join(", ")))?;
    let folder = root.join("target/planted");
    copy(root, &folder)?;
    let file = folder.join(bug.file);
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, planted(bug, &text)?)?;
    cargo(&folder, &["build", "--package", "godwit"])?;
    Ok(folder.join("target/debug/godwit"))
}

fn planted(bug: &Bug, text: &str) -> Result<String> {
    let places = text.matches(bug.find).count();
    ensure!(places == 1, "{}: {} places in {}, and must be one", bug.name, places, bug.file);
    Ok(text.replacen(bug.find, bug.replace, 1))
}

/// Copies the project's files; those that did not change keep their time, so that
/// the next bug builds quickly.
fn copy(root: &Path, to: &Path) -> Result<()> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z"]).current_dir(root);
    let files = proc::output(&mut list, Duration::from_secs(60))?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root.join(file), to.join(file));
        let fresh = std::fs::read(&from).with_context(|| from.display().to_string())?;
        if std::fs::read(&to).is_ok_and(|old| old == fresh) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        std::fs::write(&to, fresh).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for bug in BUGS {
            let text = std::fs::read_to_string(root.join(bug.file)).unwrap();
            assert_ne!(planted(bug, &text).unwrap(), text);
        }
    }
}
