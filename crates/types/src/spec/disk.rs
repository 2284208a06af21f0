//! Disks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::{FileName, PoolName};

/// A disk on storage that every host of the VM shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// The pool: a folder of files, or of the host's block devices.
    pub pool: PoolName,
    /// The file or device in it.
    pub file: FileName,
    /// Image format; never probed.
    pub format: DiskFormat,
    /// How the guest sees it.
    #[serde(default)]
    pub bus: DiskBus,
    /// What becomes of the VM when the storage fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_io_error: OnIoError,
}

/// Image formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// Plain bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// Disk buses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// A disk of the VM's one virtio-scsi controller.
    Scsi,
    /// IDE on `pc`, AHCI on `q35`.
    Ide,
}

/// What becomes of the VM when the storage fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnIoError {
    /// It stands still when the storage is full; the guest is told of other errors.
    #[default]
    PauseWhenFull,
    /// It stands still; the guest never sees the error.
    Pause,
    /// The guest is told.
    Report,
}
