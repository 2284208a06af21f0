//! A newer QEMU beside the installed one: the backports' packages, downloaded by
//! name and unpacked into the cache. Nothing is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::proc;

/// What the tests want: new enough for everything that older ones lack.
const MAJOR: u32 = 10;
/// What is unpacked.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-data", "seabios", "ipxe-qemu"];
/// Where the firmware lies in them.
const DATA: &[&str] = &["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
/// Longest until lists and packages are here.
const DOWNLOAD: Duration = Duration::from_secs(15 * 60);

/// A QEMU that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Qemu {
    /// The program.
    pub(crate) program: PathBuf,
    /// Folders for `-L`.
    pub(crate) data: Vec<PathBuf>,
}

/// QEMU 10.0 or newer: from the cache, or downloaded into it now.
///
/// # Errors
/// It cannot be had here; the text says why, and how to have it all the same.
pub(crate) fn newer_qemu() -> Result<Qemu> {
    let cache = lab::images::default_cache();
    let place = cache.join(format!("qemu-{MAJOR}"));
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let lock = File::create(cache.join("qemu.lock"))?;
    lock.lock()?;
    if !place.join(PROGRAM).exists() {
        download(&place).with_context(|| {
            format!(
                "QEMU {MAJOR} cannot be had here: it comes from this distribution's backports; \
                 unpack the packages {} into {} by hand",
                PACKAGES.join(", "),
                place.display()
            )
        })?;
    }
    let qemu = Qemu {
        program: place.join(PROGRAM),
        data: DATA.iter().map(|dir| place.join(dir)).collect(),
    };
    let said = proc::output(Command::new(&qemu.program).arg("--version"), DOWNLOAD)
        .with_context(|| format!("{} does not run", qemu.program.display()))?;
    let version = major(&said).with_context(|| format!("no version in {said:?}"))?;
    ensure!(version >= MAJOR, "{} is only QEMU {version}", qemu.program.display());
    Ok(qemu)
}

/// Downloads and unpacks beside `place`, and puts it there when it is whole.
fn download(place: &Path) -> Result<()> {
    eprintln!("downloading QEMU {MAJOR} from the backports into {}", place.display());
    let work = place.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let (debs, tree) = (work.join("debs"), work.join("tree"));
    let apt = Apt::new(&work.join("apt"))?;
    for folder in [&debs, &tree] {
        fs::create_dir_all(folder)?;
    }
    proc::run(&mut apt.command("apt-get", &["update"]), DOWNLOAD)?;
    let suite = &apt.suite;
    for package in PACKAGES {
        // Not all of them are in the backports; what is not is the distribution's own.
        let names = [format!("{package}/{suite}"), (*package).to_owned()];
        let got = names.iter().map(|name| {
            let mut get = apt.command("apt-get", &["download", name]);
            proc::output(get.current_dir(&debs), DOWNLOAD)
        });
        let mut last = None;
        let fine = got.into_iter().any(|got| got.map_err(|e| last = Some(e)).is_ok());
        if let (false, Some(error)) = (fine, last) {
            return Err(error);
        }
    }
    for deb in fs::read_dir(&debs)? {
        let mut unpack = Command::new("dpkg-deb");
        proc::run(unpack.arg("-x").arg(deb?.path()).arg(&tree), DOWNLOAD)?;
    }
    ensure!(tree.join(PROGRAM).exists(), "the packages hold no {PROGRAM}");
    fs::rename(&tree, place)?;
    Ok(fs::remove_dir_all(&work)?)
}

/// apt with lists and sources of its own: the machine's, and the same archive's backports.
struct Apt {
    dir: PathBuf,
    suite: String,
}

impl Apt {
    fn new(dir: &Path) -> Result<Self> {
        let codename = codename(&fs::read_to_string("/etc/os-release")?)
            .context("/etc/os-release has no VERSION_CODENAME")?;
        let suite = format!("{codename}-backports");
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let mut sources = Vec::new();
        for file in source_files()? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            sources.extend(match file.extension().is_some_and(|e| e == "sources") {
                true => stanzas(&text, &codename, &suite),
                false => one_lines(&text, &codename, &suite),
            });
        }
        // A machine that knows its backports names the archive twice.
        sources.sort();
        sources.dedup();
        if sources.is_empty() {
            bail!("no source of {codename} in /etc/apt; its backports are not known either");
        }
        fs::write(dir.join("parts/godwit.sources"), sources.join("\n"))?;
        Ok(Self { dir: dir.to_owned(), suite })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        let settings = [
            ("Dir::Etc::SourceList", at("none")),
            ("Dir::Etc::SourceParts", at("parts")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::Cache", at("cache")),
            // Its usual user may not write where we do.
            ("APT::Sandbox::User", String::new()),
        ];
        for (name, value) in settings {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.arg("--quiet").args(arguments).env("LC_ALL", "C");
        command
    }
}

fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    for entry in fs::read_dir("/etc/apt/sources.list.d")? {
        files.push(entry?.path());
    }
    let known = |file: &PathBuf| {
        file.extension().is_some_and(|e| e == "list" || e == "sources") && file.exists()
    };
    files.retain(known);
    files.sort();
    Ok(files)
}

/// The archives of `codename`, with its backports added: from a file of stanzas.
fn stanzas(text: &str, codename: &str, suite: &str) -> Vec<String> {
    let mut made = Vec::new();
    for stanza in text.split("\n\n") {
        let lines: Vec<&str> = stanza.lines().filter(|l| !l.starts_with('#')).collect();
        let field = |name: &str| {
            lines.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let binary = field("Types").is_some_and(|t| t.split_whitespace().any(|t| t == "deb"));
        let ours = |s: &str| s == codename || s == suite;
        if !binary || !field("Suites").is_some_and(|s| s.split_whitespace().any(ours)) {
            continue;
        }
        let lines = lines.iter().map(|line| match line.split_once(':') {
            Some(("Types", _)) => "Types: deb\n".to_owned(),
            Some(("Suites", _)) => format!("Suites: {codename} {suite}\n"),
            _ => format!("{line}\n"),
        });
        made.push(lines.collect());
    }
    made
}

/// The same from a file with a source on each line: `deb [options] address suite part…`.
fn one_lines(text: &str, codename: &str, suite: &str) -> Vec<String> {
    let mut made = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let (options, rest) = match rest.trim().strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [address, of, parts @ ..] = words.as_slice() else { continue };
        if *of != codename && *of != suite {
            continue;
        }
        let parts = parts.join(" ");
        let signed = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
        let signed = signed.map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
        made.push(format!(
            "Types: deb\nURIs: {address}\nSuites: {codename} {suite}\nComponents: {parts}\n{signed}"
        ));
    }
    made
}

fn codename(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

/// The first number after `version`.
fn major(said: &str) -> Option<u32> {
    let rest = said.split_once("version ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_are_of_the_same_archive() {
        let text = "# a comment\nTypes: deb deb-src\nURIs: http://archive/debian\n\
                    Suites: stable stable-updates\nComponents: main\nSigned-By: /k\n\n\
                    Types: deb\nURIs: http://archive/security\nSuites: stable-security\n";
        assert_eq!(
            stanzas(text, "stable", "stable-backports"),
            ["Types: deb\nURIs: http://archive/debian\nSuites: stable stable-backports\n\
              Components: main\nSigned-By: /k\n"]
        );
        let text = "deb [arch=amd64 signed-by=/k] http://archive/debian stable main contrib\n\
                    deb-src http://archive/debian stable main\n#deb http://x stable main\n\
                    deb http://other/debian stable-security main\n";
        assert_eq!(
            one_lines(text, "stable", "stable-backports"),
            ["Types: deb\nURIs: http://archive/debian\nSuites: stable stable-backports\n\
              Components: main contrib\nSigned-By: /k\n"]
        );
        assert!(one_lines("deb http://archive/debian other main", "stable", "s").is_empty());
    }

    #[test]
    fn versions_and_names_are_read() {
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"), Some(10));
        assert_eq!(major("no such thing"), None);
        assert_eq!(codename("ID=x\nVERSION_CODENAME=\"bookworm\"\n").unwrap(), "bookworm");
        assert_eq!(codename("ID=x\n"), None);
    }
}
