//! What the machine must have, and getting it: asked once, installed with apt-get.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::proc;

mod newer;

pub(crate) use newer::{Qemu, newer_qemu};

/// Names the binary that is built already.
pub(crate) const BUILT: &str = "GODWIT_BUILT";

/// A tool and the Debian package that holds it (Ubuntu's has the same name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// A program, searched in PATH and the administrators' folders, or a file's path.
    program: &'static str,
    /// The package.
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
}

/// UEFI firmware, where Debian and Ubuntu have it.
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

const QEMU: Tool =
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "runs the VMs" };

const TOOLS: &[Tool] = &[
    QEMU,
    Tool { program: OVMF, package: "ovmf", purpose: "boots VMs with UEFI" },
    Tool { program: "qemu-img", package: "qemu-utils", purpose: "makes and checks disk images" },
    Tool { program: "ip", package: "iproute2", purpose: "makes the lab's network" },
    Tool { program: "tc", package: "iproute2", purpose: "shapes the lab's links" },
    Tool { program: "nsenter", package: "util-linux", purpose: "enters the lab's hosts" },
    Tool { program: "mount", package: "mount", purpose: "gives hosts their own folders" },
    Tool { program: "cc", package: "gcc libc6-dev", purpose: "links programs" },
    Tool { program: "dpkg-deb", package: "dpkg", purpose: "unpacks the guest's kernel" },
];

/// Installs what is missing, after asking once (not at all with `yes`).
/// With `own_qemu`, QEMU comes from elsewhere and is not asked for.
///
/// # Errors
/// Something is missing and cannot or may not be installed; the text says what
/// to install by hand.
pub(crate) fn run(yes: bool, own_qemu: bool) -> Result<()> {
    let needed = |t: &&Tool| !(own_qemu && **t == QEMU);
    let missing: Vec<Tool> =
        TOOLS.iter().filter(needed).filter(|t| !found(t.program)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&missing);
    eprintln!("Missing on this machine:");
    for tool in &missing {
        eprintln!("  {:<20} {} (package {})", tool.program, tool.purpose, tool.package);
    }
    let by_hand = format!("install them yourself: {}", packages.join(" "));
    if !found("apt-get") {
        bail!("there is no apt-get here; {by_hand} (names of Debian and Ubuntu)");
    }
    if !yes && !agreed(&packages)? {
        bail!("not installed; {by_hand}");
    }
    install(&packages).with_context(|| by_hand)?;
    match missing.iter().find(|t| !found(t.program)) {
        Some(t) => bail!("{} is still missing after the package {}", t.program, t.package),
        None => Ok(()),
    }
}

/// Python that can make environments of its own, for tools of other people.
///
/// # Errors
/// See [`run`].
pub(crate) fn python(yes: bool) -> Result<()> {
    const PACKAGE: &[&str] = &["python3-venv"];
    let there = || {
        let mut probe = Command::new("python3");
        probe.args(["-c", "import ensurepip, venv"]);
        probe.output().is_ok_and(|output| output.status.success())
    };
    if there() {
        return Ok(());
    }
    if !found("apt-get") || (!yes && !agreed(PACKAGE)?) {
        bail!("python3 with the modules ensurepip and venv is missing; install it yourself");
    }
    install(PACKAGE)?;
    ensure!(there(), "python3 still cannot make environments after the package {PACKAGE:?}");
    Ok(())
}

/// True if this process may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Goes on as root: runs this program again through sudo, with the same
/// arguments and the binary that is built already, where it is not root.
///
/// # Errors
/// There is no sudo, or it refuses.
pub(crate) fn become_root(godwit: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt;
    if is_root() {
        return Ok(());
    }
    ensure!(found("sudo"), "a lab needs root (namespaces, bridges): run this as root");
    let own = std::env::current_exe().context("cannot find the own program")?;
    let mut built = OsString::from(format!("{BUILT}="));
    built.push(godwit);
    let error = Command::new("sudo")
        .arg("--preserve-env=PATH,NO_COLOR")
        .arg(built)
        .arg(own)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).context("cannot run sudo")
}

/// Package names, each once, in order.
fn packages(missing: &[Tool]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in missing.iter().flat_map(|t| t.package.split(' ')) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn agreed(packages: &[&str]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask; say --yes to install {}", packages.join(" "));
    }
    eprint!("Install {} with apt-get? [Y/n] ", packages.join(" "));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn install(packages: &[&str]) -> Result<()> {
    let quarter = Duration::from_secs(15 * 60);
    proc::run(apt_get().arg("update"), quarter)?;
    proc::run(
        apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages),
        quarter,
    )?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.arg("--quiet");
    command
}

/// True if `program` is in PATH or where administrators' programs are, or is the
/// path of a file that is there.
fn found(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(found("sh"));
        assert!(found("/etc/passwd") && !found("/etc/no-such-file"));
        assert!(!found("no-such-program-here"));
        assert!(!is_program(Path::new("/etc/passwd")));
    }

    #[test]
    fn a_package_is_installed_once() {
        let two: Vec<Tool> = TOOLS.iter().filter(|t| t.package == "iproute2").copied().collect();
        assert_eq!(two.len(), 2);
        assert_eq!(packages(&two), ["iproute2"]);
        let cc: Vec<Tool> = TOOLS.iter().filter(|t| t.program == "cc").copied().collect();
        assert_eq!(packages(&cc), ["gcc", "libc6-dev"]);
    }
}
