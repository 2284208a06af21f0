//! The Linux guest: the distribution's kernel for virtual machines, busybox and
//! our own program in an initial RAM file system.

use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use types::FileName;

use super::ImageError;
use super::cpio::Archive;
use super::modules::{self, Module};
use super::packages::{self, file_error};

/// The program for guests, built together with this crate.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/godwit-guest"));
/// Why it was not built; empty if it was.
static PROBLEM: &str = include_str!(concat!(env!("OUT_DIR"), "/godwit-guest.problem"));
/// The first program of the guest; `@MODULES@` stands for the modules' names.
static INIT: &str = include_str!("init.sh");

/// Where a kernel comes from.
#[derive(Debug, Clone, Default)]
pub struct LinuxOptions {
    /// A kernel to take instead of the distribution's; goes with `initrd`. It is
    /// copied.
    pub kernel: Option<PathBuf>,
    /// Its initial RAM file system. It has to bring `godwit-guest` itself
    /// ([`write_program`]).
    pub initrd: Option<PathBuf>,
    /// Ask the distribution again, even though a kernel is there already.
    pub refresh: bool,
}

/// A Linux guest's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxImages {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initrd: PathBuf,
}

/// Their names in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxFiles {
    /// The kernel.
    pub kernel: FileName,
    /// The initial RAM file system.
    pub initrd: FileName,
}

/// Folder for images that outlive a lab: `$GODWIT_CACHE`, or `godwit` in the
/// user's cache folder, or one below `/var/tmp`.
pub fn default_cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("GODWIT_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("godwit")))
        .or_else(|| Some(variable("HOME")?.join(".cache/godwit")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/godwit-cache"))
}

/// Makes a Linux guest's files in `dir`, or finds them there. Names follow from
/// the content, so that a file that a VM uses never changes; nothing is ever
/// half there; several processes may call at the same time.
///
/// # Errors
/// No package to be had (no network, no apt, other distribution), or no program
/// for the guest; each says what would help.
pub fn linux(dir: &Path, options: &LinuxOptions) -> Result<LinuxImages, ImageError> {
    fs::create_dir_all(dir).map_err(file_error("make", dir))?;
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(file_error("make", &path))?;
    lock.lock().map_err(file_error("lock", &path))?;
    match (&options.kernel, &options.initrd) {
        (Some(kernel), Some(initrd)) => keep_both(dir, &read(kernel)?, &read(initrd)?),
        (None, None) if PROGRAM.is_empty() => Err(ImageError::NoGuest(PROBLEM)),
        (None, None) => assemble(dir, &base(dir, options.refresh)?),
        _ => Err(ImageError::Spec {
            what: "boot",
            given: "one of --kernel and --initrd".into(),
            why: "a kernel's modules are in its initrd: give both or none".into(),
        }),
    }
}

/// Name of that folder: another one whenever more is taken out of the packages.
const BASE: &str = "base-2";

/// The folder with the unpacked packages; its name says which.
fn base(dir: &Path, refresh: bool) -> Result<PathBuf, ImageError> {
    let current = dir.join(BASE);
    if current.join("kernel").exists() && !refresh {
        return Ok(current);
    }
    let scratch = tempfile::Builder::new()
        .prefix("packages-")
        .tempdir_in(dir)
        .map_err(file_error("make a folder in", dir))?;
    let (debs, tree) = (scratch.path().join("debs"), scratch.path().join("tree"));
    let ready = scratch.path().join("ready");
    for folder in [&debs, &tree, &ready] {
        fs::create_dir(folder).map_err(file_error("make", folder))?;
    }
    let found = packages::resolve()?;
    for package in packages::download(&found, &debs)? {
        packages::unpack(&package, &tree)?;
    }
    collect(&tree, &ready, &found.kernel)?;
    if current.exists() {
        fs::remove_dir_all(&current).map_err(file_error("remove", &current))?;
    }
    fs::rename(&ready, &current).map_err(file_error("make", &current))?;
    Ok(current)
}

/// Takes out of the unpacked packages what a guest needs: `kernel`, `busybox`,
/// and `modules/NN-NAME.ko` in loading order.
fn collect(tree: &Path, ready: &Path, package: &str) -> Result<(), ImageError> {
    let lacks = |what: &str| ImageError::Package { package: package.into(), what: what.into() };
    let kernel = first(&tree.join("boot"), "vmlinuz").ok_or_else(|| lacks("kernel"))?;
    copy(&kernel, &ready.join("kernel"))?;
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|p| tree.join(p));
    let busybox = busybox.iter().find(|p| p.exists()).ok_or_else(|| lacks("busybox"))?;
    copy(busybox, &ready.join("busybox"))?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|p| tree.join(p));
    let modules = modules.iter().find(|p| p.is_dir()).ok_or_else(|| lacks("modules"))?;
    let folder = ready.join("modules");
    fs::create_dir(&folder).map_err(file_error("make", &folder))?;
    for (i, module) in modules::load_order(modules, package)?.iter().enumerate() {
        let file = folder.join(format!("{i:02}-{}.ko", module.name));
        fs::write(&file, &module.content).map_err(file_error("write", &file))?;
    }
    Ok(())
}

fn first(folder: &Path, begins: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(begins)))
        .collect();
    files.sort();
    files.into_iter().next()
}

/// Kernel and initial RAM file system, made of the base and our own program.
fn assemble(dir: &Path, base: &Path) -> Result<LinuxImages, ImageError> {
    let modules = modules_of(&base.join("modules"))?;
    let busybox = read(&base.join("busybox"))?;
    let initrd = archive(&modules, &busybox);
    let kernel = read(&base.join("kernel"))?;
    keep_both(dir, &kernel, &initrd)
}

fn modules_of(folder: &Path) -> Result<Vec<Module>, ImageError> {
    let fail = file_error("read", folder);
    let mut modules = Vec::new();
    for entry in fs::read_dir(folder).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        modules.push(Module { name, content: read(&path)? });
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

fn archive(modules: &[Module], busybox: &[u8]) -> Vec<u8> {
    let names: Vec<&str> = modules.iter().map(|m| m.name.as_str()).collect();
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "modules", "seed"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.program("init", INIT.replace("@MODULES@", &names.join(" ")).as_bytes());
    archive.program("bin/busybox", busybox);
    archive.link("bin/sh", "busybox");
    archive.program("bin/godwit-guest", PROGRAM);
    for module in modules {
        archive.program(&format!("modules/{}", module.name), &module.content);
    }
    archive.finish()
}

/// Versions of a file that are kept.
const VERSIONS: usize = 8;

fn keep_both(dir: &Path, kernel: &[u8], initrd: &[u8]) -> Result<LinuxImages, ImageError> {
    Ok(LinuxImages { kernel: keep(dir, "kernel", kernel)?, initrd: keep(dir, "initrd", initrd)? })
}

/// Writes content under a name that follows from it, unless it is there, and
/// removes what has not been used for longest.
fn keep(dir: &Path, kind: &str, content: &[u8]) -> Result<PathBuf, ImageError> {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(content);
    let path = dir.join(format!("linux-{:016x}.{kind}", hasher.finish()));
    let there = fs::metadata(&path).is_ok_and(|m| m.len() == content.len() as u64);
    // The time of a file says when it was asked for last; that is all it is for.
    let touched =
        there && File::open(&path).is_ok_and(|f| f.set_modified(SystemTime::now()).is_ok());
    if !touched {
        write_whole(&path, content)?;
    }
    let fail = file_error("read", dir);
    let mut others = Vec::new();
    for entry in fs::read_dir(dir).map_err(&fail)? {
        let other = entry.map_err(&fail)?.path();
        let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("linux-") && name.ends_with(&format!(".{kind}")) && other != path {
            others.push((fs::metadata(&other).and_then(|m| m.modified()).ok(), other));
        }
    }
    others.sort();
    others.reverse();
    for (_, old) in others.iter().skip(VERSIONS - 1) {
        fs::remove_file(old).map_err(file_error("remove", old))?;
    }
    Ok(path)
}

/// Writes the program for guests to a file, for those who make their own
/// initial RAM file system.
///
/// # Errors
/// It was not built, or the file cannot be written.
pub fn write_program(path: &Path) -> Result<(), ImageError> {
    if PROGRAM.is_empty() {
        return Err(ImageError::NoGuest(PROBLEM));
    }
    write_whole(path, PROGRAM)
}

impl LinuxImages {
    /// Puts the files into a pool's folder and returns their names there. Files
    /// of these names that are there already are left as they are.
    ///
    /// # Errors
    /// A file cannot be written, or its name cannot stand in a spec.
    pub fn place_in(&self, pool: &Path) -> Result<LinuxFiles, ImageError> {
        let place = |file: &Path| -> Result<FileName, ImageError> {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let valid = name.parse().map_err(|e: types::IdError| ImageError::Spec {
                what: "file name",
                given: name.clone().into_owned(),
                why: e.to_string(),
            })?;
            let target = pool.join(&*name);
            if !target.exists() && fs::hard_link(file, &target).is_err() {
                copy(file, &target)?;
            }
            Ok(valid)
        };
        Ok(LinuxFiles { kernel: place(&self.kernel)?, initrd: place(&self.initrd)? })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(file_error("read", path))
}

fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    write_whole(to, &read(from)?)
}

/// Writes a file that is either not there or whole.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = file_error("write", path);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(&fail)?;
    std::io::Write::write_all(&mut file, content).map_err(&fail)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    file.as_file().set_permissions(mode).map_err(&fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_files_are_kept_by_content_and_placed_under_that_name() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, pool) = (dir.path().join("cache"), dir.path().join("pool"));
        fs::create_dir(&pool).unwrap();
        let options = LinuxOptions {
            kernel: Some(dir.path().join("my kernel")),
            initrd: Some(dir.path().join("my initrd")),
            refresh: false,
        };
        let mut seen = Vec::new();
        for version in 0..VERSIONS + 3 {
            fs::write(dir.path().join("my kernel"), format!("kernel {version}")).unwrap();
            fs::write(dir.path().join("my initrd"), "always the same").unwrap();
            let images = linux(&cache, &options).unwrap();
            assert_eq!(linux(&cache, &options).unwrap(), images);
            let files = images.place_in(&pool).unwrap();
            let placed = pool.join(files.kernel.as_str());
            assert_eq!(fs::read_to_string(&placed).unwrap(), format!("kernel {version}"));
            seen.push(files);
        }
        seen.dedup_by(|a, b| a.kernel == b.kernel || a.initrd != b.initrd);
        assert_eq!(seen.len(), VERSIONS + 3);
        // Eight kernels, one initrd and the lock.
        assert_eq!(fs::read_dir(&cache).unwrap().count(), VERSIONS + 2);
        assert_eq!(fs::read_dir(&pool).unwrap().count(), VERSIONS + 3 + 1);
    }

    #[test]
    fn one_file_alone_and_files_that_are_not_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ghost = Some(dir.path().join("ghost"));
        let alone = LinuxOptions { kernel: ghost.clone(), ..LinuxOptions::default() };
        let problem = linux(dir.path(), &alone).unwrap_err().to_string();
        assert!(problem.contains("both or none"), "{problem}");
        let both = LinuxOptions { initrd: ghost, ..alone };
        let problem = linux(dir.path(), &both).unwrap_err().to_string();
        assert!(problem.contains("ghost"), "{problem}");
    }

    #[test]
    fn the_first_program_loads_every_module_in_order() {
        let module = |name: &str| Module { name: name.into(), content: b"module".to_vec() };
        let archive = archive(&[module("00-a.ko"), module("01-b.ko")], b"busybox");
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("for module in 00-a.ko 01-b.ko; do"));
        assert!(text.contains("modules/01-b.ko\0") && text.contains("bin/godwit-guest\0"));
    }
}
