//! `godwit lab guest`: a VM to try things out with.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ::lab::images::{self, ImageError, LinuxOptions, TinyOptions};
use ::lab::specs::{self, LinuxGuest};
use types::{Bytes, VmName, VmSpec};

use super::Place;
use crate::failure::{FAILED, Failure, USAGE};
use crate::output::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The VM's name.
    name: VmName,
    /// A guest of a few kilobytes that checks its memory and disk, without a network.
    #[arg(long, conflicts_with_all = ["ip", "vcpus", "roles", "kernel"])]
    tiny: bool,
    /// Memory.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    memory: Bytes,
    /// Virtual processors.
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Its address [default: 10.N.1.10 in the lab's network].
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// What it does.
    #[arg(long, value_name = "ROLES", default_value = "serve,beat")]
    roles: String,
    /// A kernel of your own, instead of the distribution's.
    #[arg(long, value_name = "FILE", requires = "initrd")]
    kernel: Option<PathBuf>,
    /// Its initial RAM file system.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
}

/// Puts the guest's files into the lab's pools and prints its spec.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let dir = args.place.dir();
    let host = ::lab::status(&dir)?.hosts.first().and_then(|host| host.address.parse().ok());
    let host: Ipv4Addr = host.ok_or_else(|| Failure::new(FAILED, "the lab has no host"))?;
    let spec = if args.tiny {
        tiny(&dir, args.name.as_str(), args.memory)?
    } else {
        let [a, b, ..] = host.octets();
        let files = images::linux(
            &images::default_cache(),
            &LinuxOptions { kernel: args.kernel, initrd: args.initrd, refresh: false },
        )?
        .place_in(&dir.join(specs::IMAGES))?;
        let guest = LinuxGuest {
            name: args.name.as_str(),
            ip: args.ip.unwrap_or(Ipv4Addr::new(a, b, 1, 10)),
            memory: args.memory,
            vcpus: args.vcpus,
            roles: args.roles.parse().map_err(|e| Failure::new(USAGE, format!("--roles: {e}")))?,
            disks: Vec::new(),
        };
        specs::linux(&guest, &files)?
    };
    print(&specs::to_toml(&spec)?)
}

fn tiny(dir: &Path, name: &str, memory: Bytes) -> Result<VmSpec, ImageError> {
    let image = dir.join(specs::SHARED).join(specs::tiny_file(name));
    if !image.exists() {
        images::tiny(&image, &TinyOptions::default())?;
    }
    specs::tiny(name, memory)
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::of(error)
    }
}
