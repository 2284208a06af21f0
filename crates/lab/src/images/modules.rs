//! Kernel modules out of an unpacked package: where they are, what they need,
//! and in which order they are loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ImageError;
use super::packages::{capture, file_error};

/// What a guest needs of its kernel.
const WANTED: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net"];
/// What some guests need; a kernel may do without.
const WELCOME: &[&str] = &["sd_mod", "virtio_scsi", "isofs", "pvpanic_mmio"];

/// One module: its name and its content, ready to load.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// The wanted modules and all they depend on, in loading order. What is built
/// into the kernel is left out.
pub(super) fn load_order(tree: &Path, package: &str) -> Result<Vec<Module>, ImageError> {
    let mut found = Found { files: BTreeMap::new(), builtin: Vec::new() };
    walk(tree, &mut found)?;
    let mut order = Vec::new();
    for name in WANTED {
        visit(name, &found, package, &mut order)?;
    }
    for name in WELCOME.iter().filter(|name| found.files.contains_key(**name)) {
        visit(name, &found, package, &mut order)?;
    }
    Ok(order)
}

struct Found {
    files: BTreeMap<String, PathBuf>,
    builtin: Vec<String>,
}

/// The module's name in a file name such as `virtio-rng.ko.xz`.
fn module_name(file: &str) -> Option<String> {
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn walk(folder: &Path, found: &mut Found) -> Result<(), ImageError> {
    let fail = file_error("read", folder);
    for entry in fs::read_dir(folder).map_err(&fail)? {
        let entry = entry.map_err(&fail)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().map_err(&fail)?.is_dir() {
            walk(&path, found)?;
        } else if name == "modules.builtin" {
            let text = fs::read_to_string(&path).map_err(file_error("read", &path))?;
            let files = text.lines().filter_map(|l| module_name(l.rsplit('/').next()?));
            found.builtin.extend(files);
        } else if let Some(module) = module_name(&name) {
            found.files.insert(module, path);
        }
    }
    Ok(())
}

fn visit(
    name: &str,
    found: &Found,
    package: &str,
    order: &mut Vec<Module>,
) -> Result<(), ImageError> {
    if order.iter().any(|m| m.name == name) || found.builtin.iter().any(|b| b == name) {
        return Ok(());
    }
    let Some(path) = found.files.get(name) else {
        let what = format!("kernel module {name}");
        return Err(ImageError::Package { package: package.to_owned(), what });
    };
    let content = unpacked(path)?;
    for needed in depends(&content) {
        visit(&needed, found, package, order)?;
    }
    order.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// A module's content; compressed ones are unpacked by the tool of that name.
fn unpacked(path: &Path) -> Result<Vec<u8>, ImageError> {
    let (program, package) = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        Some("gz") => ("gzip", "gzip"),
        _ => return fs::read(path).map_err(file_error("read", path)),
    };
    let file = path.to_string_lossy();
    capture(program, package, &["-dc", "--", &file], None)
}

/// The modules that a module says it needs: `depends=a,b` in its information.
fn depends(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|b| *b == 0);
    let list = strings.find_map(|s| s.strip_prefix(b"depends=")).unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(modules: &[(&str, &str)], builtin: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel/drivers")).unwrap();
        for (file, depends) in modules {
            let content = format!("\u{7f}ELF\0name=x\0depends={depends}\0license=GPL\0");
            fs::write(dir.path().join("kernel/drivers").join(file), content).unwrap();
        }
        fs::write(dir.path().join("modules.builtin"), builtin).unwrap();
        dir
    }

    fn names(dir: &Path) -> Result<Vec<String>, String> {
        let order = load_order(dir, "the package").map_err(|e| e.to_string())?;
        Ok(order.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let dir = tree(
            &[
                ("virtio.ko", "virtio_ring"),
                ("virtio_ring.ko", ""),
                ("virtio-pci.ko", "virtio,virtio_ring"),
                ("virtio_net.ko", "virtio_ring,net-failover"),
                ("net_failover.ko", "failover"),
                ("failover.ko", ""),
                ("other.ko", "nothing"),
            ],
            "kernel/drivers/block/virtio_blk.ko\n",
        );
        let order =
            ["virtio_ring", "virtio", "virtio_pci", "failover", "net_failover", "virtio_net"];
        assert_eq!(names(dir.path()).unwrap(), order);
    }

    #[test]
    fn everything_may_be_built_in_and_something_may_be_missing() {
        let all = "kernel/virtio_pci.ko\nkernel/virtio_blk.ko\nkernel/virtio_net.ko";
        assert!(names(tree(&[], all).path()).unwrap().is_empty());
        let problem = names(tree(&[("virtio_pci.ko", "ghost")], all.split_at(20).1).path());
        assert!(problem.unwrap_err().contains("the package has no kernel module ghost"));
    }
}
