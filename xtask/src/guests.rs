//! Linux guests of the lab.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::images::{LinuxFiles, LinuxOptions};
use lab::witness::{Control, first_answer};
use lab::{images, specs};
use types::{Bytes, DiskSpec, VmSpec};

use crate::fleet::Fleet;
use crate::proc;

/// Longest until a Linux guest answers after its start; TCG on a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// What a Linux guest should be.
#[derive(Debug, Clone)]
pub(crate) struct Linux<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Number of its address, 10.77.1.*number*.
    pub(crate) number: u8,
    /// Memory.
    pub(crate) memory: Bytes,
    /// Virtual processors.
    pub(crate) vcpus: u32,
    /// What it does, as in `godwit.roles`.
    pub(crate) roles: &'a str,
    /// Disks.
    pub(crate) disks: Vec<DiskSpec>,
}

/// Makes kernel and initial RAM file system, or takes those made before, and
/// puts them where the lab's hosts see them.
///
/// # Errors
/// They cannot be made.
pub(crate) fn place_linux(fleet: &Fleet) -> Result<LinuxFiles> {
    let parts = fleet.parts();
    let (kernel, initrd) = (parts.kernel.clone(), parts.initrd.clone());
    let options = LinuxOptions { kernel, initrd, ..LinuxOptions::default() };
    let made = images::linux(&images::default_cache(), &options)
        .context("the Linux guest's kernel cannot be had")?;
    Ok(made.place_in(&fleet.dir().join("images"))?)
}

/// The spec of a Linux guest in a lab.
///
/// # Errors
/// It cannot be, or there is no kernel.
pub(crate) fn spec(fleet: &Fleet, guest: &Linux<'_>) -> Result<VmSpec> {
    let described = specs::LinuxGuest {
        name: guest.name,
        ip: fleet.plan().guest(guest.number),
        memory: guest.memory,
        vcpus: guest.vcpus,
        roles: guest.roles.parse().map_err(|e: guest::RolesError| anyhow::anyhow!("{e}"))?,
        disks: guest.disks.clone(),
    };
    Ok(specs::linux(&described, &place_linux(fleet)?)?)
}

/// Waits until a guest answers.
///
/// # Errors
/// Not within three minutes.
pub(crate) fn wait_boot(ip: Ipv4Addr) -> Result<()> {
    let address = (ip, guest::CONTROL_PORT).into();
    proc::until(&format!("an answer of the guest at {ip}"), BOOT, || {
        Ok(first_answer(address, Duration::from_secs(1)))
    })?;
    Ok(())
}

/// Connects to a guest's control port; each answer must come within `limit`.
///
/// # Errors
/// The guest cannot be reached.
pub(crate) fn control(ip: Ipv4Addr, limit: Duration) -> Result<Control> {
    Control::connect((ip, guest::CONTROL_PORT).into(), limit)
        .with_context(|| format!("the guest at {ip} cannot be reached"))
}
