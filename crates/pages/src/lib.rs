//! What to send for a page: nothing, zero, a copy, what changed, compressed, raw.
//!
//! Pages of one RAM block are collected into a [`Batch`] (zero pages as runs,
//! the others as runs and bytes), which a [`Packer`] turns into a [`Head`] and
//! a body, raw or compressed as a [`Policy`] finds worth while. The other side
//! reads the head with [`Head::read`] and the pages with an [`Unpacker`].
//! Pages of which the other side holds something already become [`Rows`] instead: copies of
//! other pages, or the parts that have changed, as [`Known`] and [`Seen`] tell.
//! Every size is known from the head and checked before anything is allocated.

mod batch;
mod error;
mod head;
mod image;
mod known;
mod pack;
mod policy;
mod prints;
mod rows;
mod seen;

pub use batch::{Batch, Pushed, is_zero};
pub use error::PageError;
pub use head::{Head, Kind, MAX_HEAD, Run};
pub use image::{HASH, Index, IndexPart, MAX_INDEXED, PageHasher, ZEROS};
pub use known::{Known, Place};
pub use pack::{MAX_BODY, Packed, Packer, Unpacker};
pub use policy::{Choice, Measured, Policy, choose};
pub use prints::{PART, PARTS, PRINTS, Printer, Prints};
pub use rows::{MOST_PARTS, Rows, Told, read_rows};
pub use seen::Seen;

/// Size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Most pages with contents in a batch.
pub const MAX_PAGES: usize = 128;
/// Most zero pages in a batch.
pub const MAX_ZERO_PAGES: usize = 4096;
/// Most runs of pages of one kind in a batch.
pub const MAX_RUNS: usize = 128;
