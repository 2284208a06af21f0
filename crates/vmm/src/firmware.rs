//! UEFI firmware: the host's code, and variables that are each VM's own file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::UefiFiles;
use crate::{HostConfig, VmmError, dirs};

/// Where distributions put OVMF's code and variables, without secure boot: Debian
/// and Ubuntu, Fedora, Arch, openSUSE.
const USUAL: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
];

/// The largest file that is firmware.
const LARGEST: u64 = 64 << 20;

/// The firmware of this host.
#[derive(Debug, Clone)]
pub(crate) struct Uefi {
    pub(crate) files: UefiFiles,
    /// BLAKE3 of the code, in hexadecimal.
    pub(crate) digest: String,
    /// Bytes of a VM's variables.
    vars_length: u64,
}

impl Uefi {
    /// The configured firmware, or what is in one of the usual places.
    ///
    /// # Errors
    /// What is configured cannot be read.
    pub(crate) fn find(config: &HostConfig) -> Result<Option<Self>, VmmError> {
        if let Some(files) = &config.uefi {
            return Self::open(files.clone()).map(Some);
        }
        let there =
            |(code, vars): &&(&str, &str)| Path::new(code).is_file() && Path::new(vars).is_file();
        let usual = USUAL.iter().find(there);
        usual
            .map(|(code, vars)| Self::open(UefiFiles { code: code.into(), vars: vars.into() }))
            .transpose()
    }

    fn open(files: UefiFiles) -> Result<Self, VmmError> {
        let length = |path: &Path| {
            let length = fs::metadata(path).map_err(VmmError::io("read firmware", path))?.len();
            let problem = format!("{} is no firmware: it has {length} bytes", path.display());
            if length == 0 || length > LARGEST {
                return Err(VmmError::Config { option: "uefi", problem });
            }
            Ok(length)
        };
        length(&files.code)?;
        let vars_length = length(&files.vars)?;
        let code = fs::read(&files.code).map_err(VmmError::io("read firmware", &files.code))?;
        let digest = blake3::hash(&code).to_hex().to_string();
        Ok(Self { files, digest, vars_length })
    }

    /// Makes a VM's variables as of a VM that has never run, unless they are there.
    pub(crate) fn make_vars(&self, path: &Path) -> Result<(), VmmError> {
        if path.exists() {
            return Ok(());
        }
        let template = &self.files.vars;
        let bytes = fs::read(template).map_err(VmmError::io("read firmware", template))?;
        write_new(path, &bytes).map_err(VmmError::io("make UEFI variables", path))
    }

    /// Wants a VM's variables to be there and of this firmware's size.
    pub(crate) fn check_vars(&self, path: &Path) -> Result<(), VmmError> {
        let what = || format!("UEFI variables {}", path.display());
        let length = match fs::metadata(path) {
            Ok(file) => file.len(),
            Err(error) => {
                let problem = format!("not on this host, and it cannot go on without: {error}");
                return Err(VmmError::missing(what(), problem));
            }
        };
        if length == self.vars_length {
            return Ok(());
        }
        let problem = format!(
            "have {length} bytes, and this host's firmware wants {}: install the firmware that \
             the VM was started with",
            self.vars_length
        );
        Err(VmmError::missing(what(), problem))
    }
}

/// The host's firmware, or what would give it one.
pub(crate) fn required(uefi: Option<&Uefi>) -> Result<&Uefi, VmmError> {
    uefi.ok_or_else(missing)
}

/// There is no firmware, and what would help.
pub(crate) fn missing() -> VmmError {
    let problem = "this host has no UEFI firmware: install the package ovmf (edk2-ovmf), or name \
                   its files in agent.toml (uefi_code, uefi_vars)";
    VmmError::missing("firmware.uefi", problem)
}

/// Writes a file as a whole or not at all, and durably; one that is there stays.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    dirs::absent(fs::remove_file(&new))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    fs::remove_file(&new)?;
    linked?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uefi(dir: &Path) -> Uefi {
        let files = UefiFiles { code: dir.join("code"), vars: dir.join("template") };
        fs::write(&files.code, "code").unwrap();
        fs::write(&files.vars, "variables").unwrap();
        Uefi::open(files).unwrap()
    }

    #[test]
    fn variables_are_made_once_and_must_fit() {
        let dir = tempfile::tempdir().unwrap();
        let uefi = uefi(dir.path());
        assert_eq!(uefi.digest, blake3::hash(b"code").to_hex().to_string());
        let vars = dir.path().join("web01.vars");
        assert!(uefi.check_vars(&vars).unwrap_err().to_string().contains("not on this host"));
        uefi.make_vars(&vars).unwrap();
        uefi.check_vars(&vars).unwrap();
        fs::write(&vars, "VARIABLES").unwrap();
        uefi.make_vars(&vars).unwrap();
        assert_eq!(fs::read_to_string(&vars).unwrap(), "VARIABLES");
        // Whoever is quicker wins.
        write_new(&vars, b"late").unwrap();
        assert_eq!(fs::read_to_string(&vars).unwrap(), "VARIABLES");
        fs::write(&vars, "of another firmware").unwrap();
        assert!(uefi.check_vars(&vars).unwrap_err().to_string().contains("wants 9"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing half made is left");
    }

    #[test]
    fn what_is_configured_must_be_firmware() {
        let dir = tempfile::tempdir().unwrap();
        let files = uefi(dir.path()).files;
        fs::write(&files.code, "").unwrap();
        let error = Uefi::open(files.clone()).unwrap_err().to_string();
        assert!(error.starts_with("uefi") && error.contains("0 bytes"), "{error}");
        fs::remove_file(&files.code).unwrap();
        assert!(Uefi::open(files).unwrap_err().to_string().contains("code"));
        assert!(required(None).unwrap_err().to_string().contains("ovmf"));
    }
}
