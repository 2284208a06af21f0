//! A fleet on one machine: hosts as namespaces, with real agents, real QEMU,
//! shaped links and faults to order.
//!
//! [`up`] makes everything, [`down`] leaves nothing behind. In between, tests and
//! benches look into hosts ([`processes`], [`counters`]), run things in them
//! ([`exec_in`], [`command_in`]), and make faults ([`link()`], [`Proxy`], signals to
//! an [`Identity`]).

mod certs;
mod config;
mod down;
mod error;
mod groups;
pub mod images;
mod inside;
mod link;
mod logs;
mod mounts;
mod net;
mod options;
mod plan;
pub mod points;
mod proc;
mod proxy;
mod ready;
mod reboot;
pub mod specs;
mod state;
mod status;
mod supervise;
mod tool;
mod up;
pub mod witness;

pub use down::down;
pub use error::LabError;
pub use inside::{HostProcesses, OutsideProcesses, command_in, exec_in, outside, processes};
pub use link::{Counters, LinkState, counters, link};
pub use options::{Qemu, UpOptions, default_dir};
pub use plan::{CONTROLLER_PORT, DEFAULT_NET, MAX_HOSTS, Plan};
pub use proc::Identity;
pub use proxy::{FrontStatus, Proxy, proxy_main};
pub use reboot::reboot;
pub use rustix::process::Signal;
pub use status::{HostStatus, LabStatus, status};
pub use supervise::host_main;
pub use up::{env, up, variables};
