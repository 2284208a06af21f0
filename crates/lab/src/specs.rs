//! Specs of the lab's guests, ready for `godwit vm create -f` or a request.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;

use guest::{BEAT_PORT, Roles};
use types::{
    BootSpec, Bytes, DiskBus, DiskFormat, DiskSpec, FileName, ImageRef, MacAddr, NicSpec,
    OnIoError, PoolName, VmSpec,
};

use crate::images::{ImageError, LinuxFiles};

/// Pool of kernels and initial RAM file systems.
pub const IMAGES: &str = "images";
/// Pool of disks.
pub const SHARED: &str = "shared";
/// Bridge that guests are plugged into.
pub const BRIDGE: &str = "br0";

/// A Linux guest in the lab's network.
#[derive(Debug, Clone)]
pub struct LinuxGuest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address; the hardware address follows from it.
    pub ip: Ipv4Addr,
    /// Memory.
    pub memory: Bytes,
    /// Virtual processors.
    pub vcpus: u32,
    /// What it does.
    pub roles: Roles,
    /// Its disks; the role `fsync` writes to the first.
    pub disks: Vec<DiskSpec>,
}

/// The spec of a Linux guest.
///
/// # Errors
/// A name that cannot stand in a spec, or a spec that cannot be.
pub fn linux(guest: &LinuxGuest<'_>, files: &LinuxFiles) -> Result<VmSpec, ImageError> {
    // Outside everything else stands the lab's first address.
    let [a, b, ..] = guest.ip.octets();
    let witness = SocketAddrV4::new(Ipv4Addr::new(a, b, 0, 1), BEAT_PORT);
    let cmdline = format!(
        "console=ttyS0 quiet panic=-1 ipv6.disable=1 godwit.ip={}/16 godwit.witness={witness} \
         godwit.roles={}",
        guest.ip, guest.roles,
    );
    checked(VmSpec {
        vcpus: guest.vcpus,
        boot: Some(BootSpec {
            kernel: image(IMAGES, files.kernel.clone())?,
            initrd: Some(image(IMAGES, files.initrd.clone())?),
            cmdline,
        }),
        disks: guest.disks.clone(),
        nics: vec![NicSpec { mac: Some(mac(guest.ip)?), bridge: word("bridge", BRIDGE)? }],
        ..VmSpec::new(word("name", guest.name)?, guest.memory)
    })
}

/// The spec of a tiny guest with its image in the pool `shared`, as
/// [`tiny_file`] names it. It has no network.
///
/// # Errors
/// A name that cannot stand in a spec, or a spec that cannot be.
pub fn tiny(name: &str, memory: Bytes) -> Result<VmSpec, ImageError> {
    let mut disk = disk(&tiny_file(name), DiskFormat::Raw)?;
    disk.bus = DiskBus::Ide;
    checked(VmSpec {
        machine: "pc".into(),
        disks: vec![disk],
        ..VmSpec::new(word("name", name)?, memory)
    })
}

/// Name of a tiny guest's image in the pool `shared`.
pub fn tiny_file(name: &str) -> String {
    format!("{name}.tiny.raw")
}

/// A virtio disk in the pool `shared`.
///
/// # Errors
/// A name that cannot stand in a spec.
pub fn disk(file: &str, format: DiskFormat) -> Result<DiskSpec, ImageError> {
    let ImageRef { pool, file } = image(SHARED, word("disk", file)?)?;
    let (bus, on_io_error) = (DiskBus::Virtio, OnIoError::default());
    Ok(DiskSpec { pool, file, format, bus, on_io_error })
}

/// Makes an empty disk image. qcow2 needs `qemu-img`.
///
/// # Errors
/// The file exists already or cannot be written, or `qemu-img` fails.
pub fn make_disk(path: &Path, format: DiskFormat, size: Bytes) -> Result<(), ImageError> {
    let fail = |source| ImageError::File { action: "make", path: path.to_owned(), source };
    // Claims the name: `qemu-img` itself would overwrite.
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail)?;
    if format == DiskFormat::Raw {
        return file.set_len(size.0).map_err(fail);
    }
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "--"]).arg(path).arg(size.0.to_string());
    let made = crate::images::run(command, "qemu-img", "qemu-utils");
    if made.is_err() {
        // The empty file would be taken for a disk.
        let _ = std::fs::remove_file(path);
    }
    made.map(drop)
}

/// A spec as a user would write it.
///
/// # Errors
/// Nothing that a spec can hold; kept for form.
pub fn to_toml(spec: &VmSpec) -> Result<String, ImageError> {
    toml::to_string(spec).map_err(|e| cannot("spec", spec.name.as_str(), &e.to_string()))
}

fn checked(spec: VmSpec) -> Result<VmSpec, ImageError> {
    spec.check().map_err(|e| cannot("guest", spec.name.as_str(), &e.to_string()))?;
    Ok(spec)
}

fn image(pool: &str, file: FileName) -> Result<ImageRef, ImageError> {
    Ok(ImageRef { pool: word::<PoolName>("pool", pool)?, file })
}

fn mac(ip: Ipv4Addr) -> Result<MacAddr, ImageError> {
    let [_, b, c, d] = ip.octets();
    word("address", &format!("52:54:00:{b:02x}:{c:02x}:{d:02x}"))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    what: &'static str,
    given: &str,
) -> Result<T, ImageError> {
    given.parse().map_err(|e: T::Err| cannot(what, given, &e.to_string()))
}

fn cannot(what: &'static str, given: &str, why: &str) -> ImageError {
    ImageError::Spec { what, given: given.chars().take(80).collect(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> LinuxFiles {
        LinuxFiles {
            kernel: "linux-1.kernel".parse().unwrap(),
            initrd: "linux-1.initrd".parse().unwrap(),
        }
    }

    fn web() -> LinuxGuest<'static> {
        LinuxGuest {
            name: "web01",
            ip: Ipv4Addr::new(10, 77, 1, 5),
            memory: Bytes(256 << 20),
            vcpus: 2,
            roles: "serve,beat".parse().unwrap(),
            disks: vec![disk("web01.qcow2", DiskFormat::Qcow2).unwrap()],
        }
    }

    #[test]
    fn a_linux_guest_is_a_spec_that_reads_back() {
        let spec = linux(&web(), &files()).unwrap();
        let cmdline = &spec.boot.as_ref().unwrap().cmdline;
        for word in
            ["godwit.ip=10.77.1.5/16", "godwit.witness=10.77.0.1:7001", "roles=serve:256,beat:10"]
        {
            assert!(cmdline.contains(word), "{cmdline}");
        }
        assert_eq!(spec.nics[0].mac.unwrap().to_string(), "52:54:00:4d:01:05");
        let text = to_toml(&spec).unwrap();
        assert_eq!(toml::from_str::<VmSpec>(&text).unwrap(), spec, "{text}");
    }

    #[test]
    fn a_tiny_guest_is_a_spec_that_reads_back() {
        let spec = tiny("t1", Bytes(32 << 20)).unwrap();
        assert_eq!(spec.disks[0].bus, DiskBus::Ide);
        let text = to_toml(&spec).unwrap();
        assert_eq!(toml::from_str::<VmSpec>(&text).unwrap(), spec, "{text}");
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(tiny("../x", Bytes(32 << 20)).unwrap_err().to_string().contains("../x"));
        assert!(tiny("t", Bytes(3)).unwrap_err().to_string().contains("memory"));
        let guest = LinuxGuest { vcpus: 0, ..web() };
        assert!(linux(&guest, &files()).unwrap_err().to_string().contains("vcpus"));
        assert!(disk("a/b", DiskFormat::Raw).is_err());
    }

    #[test]
    fn a_disk_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("d.raw");
        make_disk(&raw, DiskFormat::Raw, Bytes(1 << 20)).unwrap();
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), 1 << 20);
        assert!(
            make_disk(&raw, DiskFormat::Raw, Bytes(1)).unwrap_err().to_string().contains("d.raw")
        );
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), 1 << 20);
    }
}
