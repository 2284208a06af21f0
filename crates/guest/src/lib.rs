//! What the lab's guests leave in memory, on disks and on the network, and how
//! to check it.
//!
//! The program of the same name runs inside Linux guests (`docs/guests.md`);
//! everything here is shared between it and those who watch from outside. Only
//! the standard library is used, so that `rustc` alone builds the program.

mod beat;
pub mod chain;
pub mod dirty;
pub mod fill;
mod roles;
pub mod tiny;
mod words;

pub use beat::Beat;
pub use roles::{Dirty, Fill, Roles, RolesError};
pub use words::{hash, mix};

/// Port of the stream of counters (`serve`), TCP.
pub const SERVE_PORT: u16 = 7000;
/// Port that a witness outside receives heartbeats on, UDP.
pub const BEAT_PORT: u16 = 7001;
/// Port of the control protocol, TCP.
pub const CONTROL_PORT: u16 = 7002;
