//! QEMU on Linux: command line, scopes, taps, memory files.
//!
//! An instance is one QEMU of a VM. It is planned first, without side effects; the
//! plan is a record that its owner journals before anything is made, so that after
//! a crash everything can be found again or removed. QEMU and its carrier outlive
//! the process that started them.

mod accel;
mod argv;
mod carrier;
mod config;
mod cpu;
mod dirs;
mod error;
mod firmware;
mod hypervisor;
mod images;
mod life;
mod machines;
mod memory;
mod offer;
mod pools;
mod process;
mod readable;
mod record;
mod retained;
mod roms;
mod scope;
mod seed;
mod spawn;
mod taps;

pub use accel::Accel;
pub use config::{Facts, HostConfig, HugePages, UefiFiles};
pub use error::VmmError;
pub use hypervisor::Hypervisor;
pub use life::{Incoming, Instance, Leftover};
pub use record::InstanceRecord;
pub use retained::Retain;
pub use taps::{Tap, exists as has_device};
