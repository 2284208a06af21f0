//! Packages of Debian and Ubuntu: found, downloaded and unpacked by a plain
//! user; nothing is installed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ImageError;

/// The packages that a Linux guest is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packages {
    /// The kernel's package.
    pub(super) kernel: String,
    /// All packages, the kernel's among them.
    pub(super) all: Vec<String>,
}

/// Kernels made for virtual machines: Debian's, then Ubuntu's.
const KERNELS: &[&str] = &["linux-image-cloud-amd64", "linux-image-virtual"];
const APT_HELP: &str = "; check the network and run `apt-get update`, or give a kernel and an \
                        initrd yourself (--kernel, --initrd)";

/// Asks apt which packages there are.
pub(super) fn resolve() -> Result<Packages, ImageError> {
    for name in KERNELS {
        let Ok(text) = apt("apt-cache", &["depends", "--important", name], None) else { continue };
        let Some(kernel) = dependency(&text, "linux-image-") else { continue };
        let mut all = vec![kernel.clone(), "busybox-static".to_owned()];
        // Ubuntu keeps the modules in a package of their own.
        let text = apt("apt-cache", &["depends", "--important", &kernel], None)?;
        all.extend(dependency(&text, "linux-modules-"));
        return Ok(Packages { kernel, all });
    }
    Err(ImageError::NoKernel { tried: KERNELS.join(", ") })
}

/// The first package that is depended on and begins so.
fn dependency(text: &str, begins: &str) -> Option<String> {
    let names = text.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|n| n.starts_with(begins)).map(str::to_owned)
}

/// Downloads the packages into `folder`, as `*.deb`.
pub(super) fn download(packages: &Packages, folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let names = packages.all.iter().map(String::as_str);
    let arguments: Vec<&str> = ["download", "--quiet", "--option=Acquire::http::Timeout=30"]
        .into_iter()
        .chain(names)
        .collect();
    apt("apt-get", &arguments, Some(folder))?;
    let fail = file_error("read", folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Unpacks a package below `folder`.
pub(super) fn unpack(package: &Path, folder: &Path) -> Result<(), ImageError> {
    let (package, folder) = (package.to_string_lossy(), folder.to_string_lossy());
    capture("dpkg-deb", "dpkg", &["-x", &package, &folder], None).map(drop)
}

fn apt(
    program: &'static str,
    arguments: &[&str],
    dir: Option<&Path>,
) -> Result<String, ImageError> {
    let bytes = capture(program, "apt", arguments, dir)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a program and returns what it wrote.
pub(super) fn capture(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
    dir: Option<&Path>,
) -> Result<Vec<u8>, ImageError> {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    run(command, program, package)
}

/// Runs a command, of `program` out of `package`, and returns what it wrote.
pub(crate) fn run(
    mut command: Command,
    program: &'static str,
    package: &'static str,
) -> Result<Vec<u8>, ImageError> {
    let failed = |command: &Command, why: String| {
        let arguments = command.get_args().map(|a| a.to_string_lossy());
        let words: Vec<_> = std::iter::once(program.into()).chain(arguments).collect();
        let remedy = if package == "apt" { APT_HELP } else { "" };
        ImageError::Command { command: words.join(" "), why, remedy }
    };
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ImageError::Tool { program, package },
        _ => failed(&command, e.to_string()),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("E:")).collect();
    let why = if lines.is_empty() { said.trim().to_owned() } else { lines.join(" ") };
    Err(failed(&command, why))
}

/// Makes an I/O error say what was done to which file.
pub(super) fn file_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::File { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_as_apt_writes_them() {
        let debian = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(debian, "linux-image-").unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        let ubuntu = "linux-image-6.8.0-1-generic\n  Depends: kmod\n |Depends: wireless-crda\n  \
                      Depends: linux-modules-6.8.0-1-generic\n";
        assert_eq!(dependency(ubuntu, "linux-modules-").unwrap(), "linux-modules-6.8.0-1-generic");
        assert_eq!(dependency(ubuntu, "busybox"), None);
    }

    #[test]
    fn a_program_that_is_missing_or_fails_is_named() {
        let missing = capture("no-such-program", "its-package", &[], None).unwrap_err();
        assert!(missing.to_string().contains("its-package"), "{missing}");
        let failed = capture("dpkg-deb", "dpkg", &["-x", "/nonexistent.deb", "/x"], None);
        let failed = failed.unwrap_err().to_string();
        assert!(failed.contains("nonexistent.deb"), "{failed}");
    }
}
