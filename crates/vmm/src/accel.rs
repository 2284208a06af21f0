//! How guests are executed: by KVM where that really works, else by TCG.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{HostConfig, VmmError};

/// Name of QEMU's accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// Emulation.
    Tcg,
    /// The processor's own virtualisation.
    Kvm,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

/// A KVM that works runs the firmware in a fraction of this.
const PATIENCE: Duration = Duration::from_secs(2);

/// A boot sector that waits for the timer's interrupt and then says so. Before it
/// runs, the firmware has been through protected mode and the disk's interrupts.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    // sti; hlt; mov al, 16; out 0xf4, al; again: cli; hlt; jmp again
    let code = [0xfb, 0xf4, 0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfc];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// What `isa-debug-exit` makes of the 16 above.
const SAID: i32 = 16 << 1 | 1;

impl Accel {
    /// The configured one, or what a small guest finds out.
    pub(crate) async fn choose(config: &HostConfig) -> Result<Self, VmmError> {
        match config.accel.as_deref() {
            Some("tcg") => return Ok(Self::Tcg),
            Some("kvm") => return Ok(Self::Kvm),
            Some(other) => {
                return Err(VmmError::Config {
                    option: "accel",
                    problem: format!("{other:?} is unknown: write \"tcg\" or \"kvm\""),
                });
            }
            None => {}
        }
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let found = Found::new(config);
        let accel = match found.read() {
            Some(accel) => accel,
            None if Self::Kvm.runs_a_guest(config, PATIENCE).await? => Self::Kvm,
            None => Self::Tcg,
        };
        found.write(accel);
        if accel == Self::Tcg {
            tracing::warn!("/dev/kvm is there, but runs no guest: guests are emulated");
        }
        Ok(accel)
    }

    /// Whether a guest boots and gets its timer's interrupts.
    async fn runs_a_guest(self, config: &HostConfig, limit: Duration) -> Result<bool, VmmError> {
        let image = config.run_dir.join("probe.img");
        std::fs::write(&image, boot_sector()).map_err(VmmError::io("write", &image))?;
        let mut command = Command::new(&config.qemu);
        for dir in &config.data_dirs {
            command.arg("-L").arg(dir);
        }
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]);
        command.arg("-machine").arg(format!("pc,accel={self}"));
        command.args(["-m", "16", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
        let drive = serde_json::json!({
            "node-name": "probe", "driver": "raw",
            "file": { "driver": "file", "filename": image.to_string_lossy() },
        });
        command.arg("-blockdev").arg(drive.to_string());
        command.args(["-device", "ide-hd,drive=probe,bootindex=1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn();
        let mut child = child.map_err(VmmError::io("run", &config.qemu))?;
        let ended = tokio::time::timeout(limit, child.wait()).await;
        if ended.is_err() {
            let _ = child.kill().await;
        }
        let _ = std::fs::remove_file(&image);
        Ok(matches!(ended, Ok(Ok(status)) if status.code() == Some(SAID)))
    }
}

/// What an earlier agent found out: a restart in the middle of a migration should
/// not wait for it again. True for one boot and one QEMU.
struct Found {
    file: PathBuf,
    about: String,
}

impl Found {
    fn new(config: &HostConfig) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let qemu = std::fs::metadata(&config.qemu);
        let changed = qemu.and_then(|meta| meta.modified()).ok();
        let about = format!("{} {} {changed:?}", boot.trim(), config.qemu.display());
        Self { file: config.run_dir.join("accel"), about }
    }

    fn read(&self) -> Option<Accel> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        match text.split_once('\n')? {
            (about, "tcg") if about == self.about => Some(Accel::Tcg),
            (about, "kvm") if about == self.about => Some(Accel::Kvm),
            _ => None,
        }
    }

    /// Whoever cannot read it finds out anew.
    fn write(&self, accel: Accel) {
        if let Err(error) = std::fs::write(&self.file, format!("{}\n{accel}", self.about)) {
            tracing::debug!(%error, "what was found out of the accelerator is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Bytes;

    use super::*;

    fn config(dir: &Path, accel: Option<&str>) -> HostConfig {
        let qemu = std::env::var_os("GODWIT_TEST_QEMU");
        let data = std::env::var_os("GODWIT_TEST_QEMU_DATA").unwrap_or_default();
        HostConfig {
            qemu: qemu.map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from),
            data_dirs: std::env::split_paths(&data).filter(|d| *d != Path::new("")).collect(),
            accel: accel.map(str::to_owned),
            run_dir: dir.to_owned(),
            state_dir: dir.to_owned(),
            memory_dir: dir.to_owned(),
            memory_size: Bytes(0),
            retain: crate::Retain {
                age: std::time::Duration::ZERO,
                memory: Bytes(0),
                disk: Bytes(0),
            },
            hugepages: None,
            uefi: None,
            device_pools: Default::default(),
            pools: Default::default(),
            bridges: Vec::new(),
            user_networks: Vec::new(),
            carrier: PathBuf::new(),
        }
    }

    #[tokio::test]
    async fn the_small_guest_says_that_it_ran() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), None);
        let limit = Duration::from_secs(30);
        assert!(Accel::Tcg.runs_a_guest(&config, limit).await.unwrap());
        // One that gets no time does not.
        assert!(!Accel::Tcg.runs_a_guest(&config, Duration::ZERO).await.unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_found_is_true_for_one_qemu() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), None);
        let found = Found::new(&config);
        assert_eq!(found.read(), None);
        found.write(Accel::Kvm);
        assert_eq!(Found::new(&config).read(), Some(Accel::Kvm));
        let other = HostConfig { qemu: "/usr/bin/true".into(), ..config };
        assert_eq!(Found::new(&other).read(), None);
        std::fs::write(dir.path().join("accel"), "torn").unwrap();
        assert_eq!(found.read(), None);
    }

    #[tokio::test]
    async fn what_is_configured_is_not_probed() {
        let dir = Path::new("/nonexistent");
        for (text, accel) in [("tcg", Accel::Tcg), ("kvm", Accel::Kvm)] {
            assert_eq!(Accel::choose(&config(dir, Some(text))).await.unwrap(), accel);
            assert_eq!(accel.to_string(), text);
        }
        let error = Accel::choose(&config(dir, Some("hax"))).await.unwrap_err();
        assert!(error.to_string().starts_with("accel: \"hax\""), "{error}");
    }
}
