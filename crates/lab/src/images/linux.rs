//! The Linux guest: the distribution's kernel for virtual machines, busybox and
//! our own program in an initial RAM file system.

use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};

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
    /// A kernel to take instead of the distribution's; goes with `initrd`.
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
    match (&options.kernel, &options.initrd) {
        (Some(kernel), Some(initrd)) => {
            for file in [kernel, initrd] {
                File::open(file).map_err(file_error("read", file))?;
            }
            return Ok(LinuxImages { kernel: kernel.clone(), initrd: initrd.clone() });
        }
        (None, None) => {}
        _ => {
            return Err(ImageError::Spec {
                what: "boot",
                given: "one of --kernel and --initrd".into(),
                why: "a kernel's modules are in its initrd: give both or none".into(),
            });
        }
    }
    if PROGRAM.is_empty() {
        return Err(ImageError::NoGuest(PROBLEM));
    }
    fs::create_dir_all(dir).map_err(file_error("make", dir))?;
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(file_error("make", &path))?;
    lock.lock().map_err(file_error("lock", &path))?;
    let base = base(dir, options.refresh)?;
    assemble(dir, &base)
}

/// The folder with the unpacked packages; its name says which.
fn base(dir: &Path, refresh: bool) -> Result<PathBuf, ImageError> {
    let current = dir.join("base");
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
    Ok(LinuxImages {
        kernel: keep(dir, "linux", "kernel", &kernel)?,
        initrd: keep(dir, "linux", "initrd", &initrd)?,
    })
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
    for folder in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
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

/// Writes content under a name that follows from it, unless it is there.
fn keep(dir: &Path, name: &str, kind: &str, content: &[u8]) -> Result<PathBuf, ImageError> {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(content);
    let path = dir.join(format!("{name}-{:016x}.{kind}", hasher.finish()));
    if fs::metadata(&path).is_ok_and(|m| m.len() == content.len() as u64) {
        return Ok(path);
    }
    write_whole(&path, content)?;
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
