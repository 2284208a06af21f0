//! Guests to migrate: their kernels, initial RAM file systems and disks.

mod error;
mod tiny;

pub use error::ImageError;
pub use tiny::{TinyOptions, check_tiny_disk, tiny};
