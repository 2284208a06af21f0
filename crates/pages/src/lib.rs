//! What to send for a page: nothing, zero, raw, compressed.
//!
//! Pages of one RAM block are collected into a [`Batch`] (zero pages as runs,
//! the others as runs and bytes), which a [`Packer`] turns into a [`Head`] and
//! a body, raw or compressed as a [`Policy`] finds worth while. The other side
//! reads the head with [`Head::read`] and the pages with an [`Unpacker`].
//! Every size is known from the head and checked before anything is allocated.

mod batch;
mod error;
mod head;
mod image;
mod pack;
mod policy;

pub use batch::{Batch, Pushed, is_zero};
pub use error::PageError;
pub use head::{Head, Kind, MAX_HEAD, Run};
pub use image::{HASH, Index, IndexPart, MAX_INDEXED, PageHasher};
pub use pack::{MAX_BODY, Packed, Packer, Unpacker};
pub use policy::{Choice, Measured, Policy, choose};

/// Size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Most pages with contents in a batch.
pub const MAX_PAGES: usize = 128;
/// Most zero pages in a batch.
pub const MAX_ZERO_PAGES: usize = 4096;
/// Most runs of pages of one kind in a batch.
pub const MAX_RUNS: usize = 128;
