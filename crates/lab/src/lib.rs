//! A fleet on one machine: hosts as namespaces, with real agents, real QEMU,
//! shaped links and faults to order.

mod error;
mod net;
mod plan;
mod proc;
mod state;

pub use error::LabError;
pub use net::{Counters, LinkState, counters, link};
pub use plan::{CONTROLLER_PORT, DEFAULT_NET, MAX_HOSTS, Plan};
pub use proc::Identity;
