//! A fleet on one machine: hosts as namespaces, with real agents, real QEMU,
//! shaped links and faults to order.

mod error;
mod plan;
mod proc;

pub use error::LabError;
pub use plan::{CONTROLLER_PORT, DEFAULT_NET, MAX_HOSTS, Plan};
pub use proc::Identity;
