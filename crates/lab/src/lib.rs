//! A fleet on one machine: hosts as namespaces, with real agents, real QEMU,
//! shaped links and faults to order.

mod config;
mod error;
mod mounts;
mod net;
mod options;
mod plan;
mod proc;
mod proxy;
mod state;
mod supervise;

pub use error::LabError;
pub use net::{Counters, LinkState, counters, link};
pub use options::{UpOptions, default_dir};
pub use plan::{CONTROLLER_PORT, DEFAULT_NET, MAX_HOSTS, Plan};
pub use proc::Identity;
pub use proxy::{FrontStatus, Proxy, proxy_main};
pub use supervise::host_main;
