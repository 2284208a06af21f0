//! A VM's spec, as users write it in TOML and as the store keeps it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, FileName, MacAddr, PoolName, VmId, VmName};

/// Everything that makes a VM the machine it is. Identity (name, UUID, MACs,
/// machine type) never changes in a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Unique name.
    pub name: VmName,
    /// Identity; made at creation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<VmId>,
    /// Virtual processors, 1 to 255.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Guest memory, a multiple of 2 MiB.
    pub memory: Bytes,
    /// QEMU CPU model with optional features (`qemu64`, `Skylake-Server-v4`, `host`).
    #[serde(default = "default_cpu")]
    pub cpu_model: String,
    /// QEMU machine type. `q35` or `pc` is replaced by its versioned name at the
    /// first start, so that the machine never drifts.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// Boot a kernel directly; without it, SeaBIOS boots the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootSpec>,
    /// Disks, in the order the guest sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
    /// Network interfaces, in the order the guest sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<NicSpec>,
    /// The first serial port.
    #[serde(default)]
    pub serial: SerialSpec,
}

/// A file of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRef {
    /// The pool.
    pub pool: PoolName,
    /// The file in it.
    pub file: FileName,
}

/// Direct kernel boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootSpec {
    /// The kernel.
    pub kernel: ImageRef,
    /// The initial RAM file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<ImageRef>,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
}

/// A disk on storage that every host of the VM shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// The pool.
    pub pool: PoolName,
    /// The file in it.
    pub file: FileName,
    /// Image format; never probed.
    pub format: DiskFormat,
    /// How the guest sees it.
    #[serde(default)]
    pub bus: DiskBus,
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
    /// IDE on `pc`, AHCI on `q35`.
    Ide,
}

/// A network interface (virtio-net).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// Its address; made at creation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The host's bridge it is plugged into (same character rules as a pool).
    pub bridge: PoolName,
}

/// What the first serial port is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SerialSpec {
    /// A log file on the host (`serial.log` in the VM's directory).
    #[default]
    Log,
    /// Nothing.
    None,
}

fn one() -> u32 {
    1
}
fn default_cpu() -> String {
    "qemu64".to_owned()
}
fn default_machine() -> String {
    "q35".to_owned()
}

/// What is wrong with a spec, with the field named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The field, as written in TOML.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl VmSpec {
    /// Checks what the types alone cannot: ranges, and texts that will stand in
    /// QEMU's arguments.
    ///
    /// # Errors
    /// The first field that is wrong, and why.
    pub fn check(&self) -> Result<(), SpecError> {
        let fail = |field: &str, problem: &str| {
            Err(SpecError { field: field.to_owned(), problem: problem.to_owned() })
        };
        if !(1..=255).contains(&self.vcpus) {
            return fail("vcpus", "must be 1 to 255");
        }
        const STEP: u64 = 2 << 20;
        if self.memory.0 < STEP || !self.memory.0.is_multiple_of(STEP) {
            return fail("memory", "must be a multiple of 2 MiB, and at least that");
        }
        if self.memory.0 > 16 << 40 {
            return fail("memory", "must be at most 16 TiB");
        }
        // CPU features are written with commas; '=' and letters complete them.
        let cpu_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.,+=".contains(&b);
        if self.cpu_model.is_empty()
            || self.cpu_model.len() > 512
            || !self.cpu_model.bytes().all(cpu_ok)
        {
            return fail(
                "cpu_model",
                "must be a QEMU CPU model, with features such as \"qemu64,+ssse3\"",
            );
        }
        let machine_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if self.machine.is_empty()
            || self.machine.len() > 64
            || !self.machine.bytes().all(machine_ok)
        {
            return fail(
                "machine",
                "must be a QEMU machine type, such as \"q35\" or \"pc-q35-7.2\"",
            );
        }
        if let Some(boot) = &self.boot
            && (boot.cmdline.len() > 2048 || boot.cmdline.chars().any(char::is_control))
        {
            return fail(
                "boot.cmdline",
                "must be at most 2,048 characters without control characters",
            );
        }
        if self.disks.len() > 16 {
            return fail("disks", "at most 16");
        }
        if self.nics.len() > 16 {
            return fail("nics", "at most 16");
        }
        for (i, disk) in self.disks.iter().enumerate() {
            if self.disks[..i].iter().any(|d| d.pool == disk.pool && d.file == disk.file) {
                return fail(&format!("disks[{i}].file"), "the same image stands there twice");
            }
        }
        for (i, nic) in self.nics.iter().enumerate() {
            if nic.mac.is_some() && self.nics[..i].iter().any(|n| n.mac == nic.mac) {
                return fail(&format!("nics[{i}].mac"), "the same address stands there twice");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = r#"
        name = "web01"
        vcpus = 2
        memory = "2GiB"
        [boot]
        kernel = { pool = "images", file = "linux.kernel" }
        cmdline = "console=ttyS0"
        [[disks]]
        pool = "shared"
        file = "web01.qcow2"
        format = "qcow2"
        [[nics]]
        mac = "52:54:00:00:00:01"
        bridge = "br0"
    "#;

    #[test]
    fn a_spec_reads_from_toml_and_survives_json() {
        let spec: VmSpec = toml::from_str(WEB).unwrap();
        spec.check().unwrap();
        assert_eq!(spec.memory, Bytes(2 << 30));
        assert_eq!(spec.machine, "q35");
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<VmSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Spoil = fn(&mut VmSpec);
        let cases: &[(Spoil, &str)] = &[
            (|s| s.vcpus = 0, "vcpus"),
            (|s| s.memory = Bytes(3), "memory"),
            (|s| s.cpu_model = "a b".into(), "cpu_model"),
            (|s| s.machine = "q35,accel=kvm".into(), "machine"),
            (|s| s.boot.as_mut().unwrap().cmdline = "a\nb".into(), "boot.cmdline"),
            (|s| s.disks.push(s.disks[0].clone()), "disks[1].file"),
            (|s| s.nics.push(s.nics[0].clone()), "nics[1].mac"),
        ];
        for (spoil, field) in cases {
            let mut spec: VmSpec = toml::from_str(WEB).unwrap();
            spoil(&mut spec);
            assert_eq!(spec.check().unwrap_err().field, *field);
        }
        let unknown =
            toml::from_str::<VmSpec>("name = \"a\"\nmemory = \"2MiB\"\nmemroy = 1").unwrap_err();
        assert!(unknown.to_string().contains("memroy"));
    }
}
