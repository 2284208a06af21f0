//! The HTTP contract: paths, bodies, problem+json, typed client, certificates.

pub mod backup;
pub mod body;
pub mod certs;
pub mod client;
pub mod console;
pub mod contract;
pub mod events;
pub mod openapi;
pub mod operation;
pub mod path;
pub mod peer;
pub mod server;
pub mod tls;

pub use client::{Client, ClientConfig, ClientError};
pub use operation::Operation;
pub use peer::{Peer, Role};
pub use server::{Hangup, Json, Rejection, serve};

/// The name that the controller's certificate bears and every client verifies,
/// whatever the address it connected to.
pub const CONTROLLER_NAME: &str = "controller.control.godwit";

/// Largest request body in bytes.
pub const MAX_REQUEST: usize = 4 << 20;

/// Largest response body in bytes.
pub const MAX_RESPONSE: usize = 32 << 20;

/// Largest backup in bytes.
pub const MAX_BACKUP: usize = 512 << 20;

/// The name that a host's certificate bears.
pub fn host_name(host: &types::HostId) -> String {
    format!("{host}.host.godwit")
}
