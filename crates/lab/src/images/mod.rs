//! Guests to migrate: their kernels, initial RAM file systems and disks.

mod cpio;
mod error;
mod linux;
mod modules;
mod packages;
mod tiny;

pub use error::ImageError;
pub use linux::{LinuxFiles, LinuxImages, LinuxOptions, default_cache, linux, write_program};
pub(crate) use packages::run;
pub use tiny::{TinyOptions, check_tiny_disk, tiny};
