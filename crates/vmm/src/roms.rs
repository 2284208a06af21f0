//! Files with firmware that QEMU loads by itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use types::FirmwareFile;

use crate::{HostConfig, VmmError};

/// What our VMs' QEMUs may load.
const NAMES: &[&str] = &["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"];
/// No firmware is larger.
const MAX: u64 = 64 << 20;

/// Finds each file where QEMU would.
pub(crate) async fn find(config: &HostConfig) -> Result<BTreeMap<String, FirmwareFile>, VmmError> {
    let mut folders = config.data_dirs.clone();
    // With this word in place of a folder it lists where it looks by itself.
    let output = Command::new(&config.qemu)
        .args(["-L", "help"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = output.await.map_err(VmmError::io("run", &config.qemu))?;
    folders.extend(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from));
    let first = |name: &&str| {
        let found = folders.iter().find_map(|folder| read(&folder.join(name)));
        found.map(|file| ((*name).to_owned(), file))
    };
    Ok(NAMES.iter().filter_map(first).collect())
}

fn read(path: &PathBuf) -> Option<FirmwareFile> {
    let mut content = Vec::new();
    File::open(path).ok()?.take(MAX).read_to_end(&mut content).ok()?;
    let digest = blake3::hash(&content).to_hex().to_string();
    Some(FirmwareFile { bytes: content.len() as u64, digest })
}
