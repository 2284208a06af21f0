//! The guides, word by word: their own code blocks, typed on two machines with
//! nothing prepared.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::machine::Machine;
use super::markdown::blocks;
use crate::{fleet, setup};

/// The guides, and whether root types them.
const GUIDES: &[(&str, bool)] =
    &[("docs/guide/two-machines.md", true), ("docs/guide/without-root.md", false)];
/// What a guide says in place of a token.
const PASTE: &str = "gw1.PASTE-THE-TOKEN";

/// How to play them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install missing tools without asking.
    #[arg(long)]
    yes: bool,
}

impl Args {
    /// As the checks of every change play them.
    pub(super) fn short() -> Self {
        Self { yes: true }
    }
}

/// Plays every guide.
///
/// # Errors
/// The guide, the line, and what went wrong there.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::run(args.yes, false)?;
    let godwit = fleet::build(root, false)?;
    setup::become_root(&godwit)?;
    for (guide, by_root) in GUIDES {
        eprintln!("-- {guide}");
        // Short, because the sockets in it have at most 107 bytes of path.
        let dir = PathBuf::from(format!("/var/tmp/gw-guide-{}", std::process::id()));
        let result = play_one(root, &godwit, guide, *by_root, &dir);
        fs::remove_dir_all(&dir).context("what the guide left cannot be removed")?;
        result.with_context(|| format!("{guide} does not work"))?;
    }
    Ok(())
}

fn play_one(root: &Path, godwit: &Path, guide: &str, by_root: bool, dir: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(guide))?;
    let here = unpacked(root, godwit, dir)?;
    let shared = dir.join("shared");
    fs::create_dir_all(&shared)?;
    open_to_all(&shared)?;
    let alpha = Machine::up("alpha", &dir.join("a"), &shared, by_root)?;
    let beta = Machine::up("beta", &dir.join("b"), &shared, by_root)?;
    alpha.wire("10.99.0.1", &beta, "10.99.0.2")?;
    let result = type_all(&text, &here, &[&alpha, &beta]);
    if result.is_err() {
        for machine in [&alpha, &beta] {
            eprintln!("--- the logs of {}\n{}", machine.name, machine.logs());
        }
    }
    alpha.down()?;
    beta.down()?;
    result
}

/// What a user has unpacked: the binary and `deploy`.
fn unpacked(root: &Path, godwit: &Path, dir: &Path) -> Result<PathBuf> {
    let here = dir.join("unpacked");
    fs::create_dir_all(&here)?;
    fs::copy(godwit, here.join("godwit"))?;
    let mut copy = std::process::Command::new("cp");
    copy.args(["-r"]).arg(root.join("deploy")).arg(here.join("deploy"));
    ensure!(copy.status()?.success(), "deploy cannot be copied");
    for path in [dir.to_owned(), here.clone()] {
        open_to_all(&path)?;
    }
    Ok(here)
}

fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
}

fn type_all(text: &str, here: &Path, machines: &[&Machine]) -> Result<()> {
    let mut token: Option<String> = None;
    let blocks = blocks(text);
    ensure!(!blocks.is_empty(), "there is nothing to type in it");
    for block in blocks {
        for name in &block.machines {
            let machine = machines.iter().find(|m| m.name == *name);
            let machine = machine.with_context(|| format!("there is no machine {name}"))?;
            let script = match &token {
                Some(token) => block.script.replace(PASTE, token),
                None => block.script.clone(),
            };
            let printed = machine
                .run(here, &script)
                .with_context(|| format!("line {}, on {name}", block.line))?;
            eprintln!("{name}: line {} is good", block.line);
            let made = printed.lines().find(|line| line.starts_with("gw1."));
            token = made.map(str::to_owned).or(token);
        }
    }
    Ok(())
}
