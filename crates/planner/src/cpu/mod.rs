//! The CPU baseline: what a VM may see so that every host of a set can run it.
//!
//! Features have QEMU's names. A feature is something a guest finds in CPUID;
//! features of nested virtualisation (`vmx-*`) and what KVM offers in software
//! (`kvm-*`) are kept apart, because they come from the kernel, not from the
//! processor. Nothing is dropped in silence: a [`Baseline`] names, host by host,
//! every feature that the host has and the baseline has not.

mod baseline;
mod demand;
mod features;
mod host;
mod level;
mod model;

pub use baseline::Baseline;
pub use demand::{Lacking, Unreadable, VmCpu};
pub use features::Features;
pub use host::HostCpu;
pub use level::Level;
pub use model::{Model, models};

#[cfg(test)]
mod tests;
