//! Why the controller could not run.

use std::io;
use std::net::SocketAddr;

use api::tls::TlsError;
use store::StoreError;

/// Why the controller could not run.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store cannot be understood.
    #[error("the store's record {key} cannot be read: {problem}; use the version that wrote it")]
    Record {
        /// The record's key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate or key is missing or wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The CA cannot be used.
    #[error(transparent)]
    Authority(#[from] api::certs::CertError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
