//! Waits until a descriptor becomes readable.

// Registration is unsafe for types that might change their descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Completes when `fd` becomes readable.
pub(crate) async fn readable(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` is an open descriptor, the same one until it is dropped,
    // and the `AsyncFd` owns it from here on.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    fd.readable().await.map(|_| ())
}
