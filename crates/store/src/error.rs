//! Why a store could not do what was asked.

use std::io;
use std::path::PathBuf;

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("the store {} cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the file open.
    #[error("the store {} is in use: end the other controller that has it open", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a store, or a damaged one. It was left as it is.
    #[error(
        "the store {} is damaged or not a store of Godwit ({problem}); it was left as it is: \
         put a backup in its place",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file was written by a later version.
    #[error(
        "the store {} has format {format}, this version reads up to {newest}: \
         use a newer godwit",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest format known here.
        newest: u64,
    },
    /// Something exceeds a limit.
    #[error("a {what} of size {is} is more than the {max} that the store takes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        is: usize,
        /// The limit.
        max: usize,
    },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
