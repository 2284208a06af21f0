//! The store: ordered keys, revisions, compare-and-swap, watch.
//!
//! Every committed transaction raises one global revision, and each key bears
//! the revision of its last change. A transaction names the revisions it was
//! decided upon and takes effect as a whole or not at all; once it answers, it
//! is durable. Who watches learns which keys changed, as far back as memory
//! reaches.

mod embedded;
mod error;
mod memory;
mod recent;
mod transaction;

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

pub use embedded::EmbeddedStore;
pub use error::StoreError;
pub use memory::MemoryStore;
pub use transaction::{Change, Commit, Condition, Entry, Range, Revision, Transaction, Watched};

/// Longest key in bytes.
pub const MAX_KEY: usize = 512;
/// Longest value in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// Most conditions and changes of a transaction.
pub const MAX_TRANSACTION: usize = 256;
/// Most entries that one range gives, whatever was asked for.
pub const MAX_RANGE: usize = 10_000;
/// Changed keys that are remembered for those who watch.
pub const MAX_RECENT: usize = 16_384;

/// An answer of a store, in time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Ordered byte keys with revisions.
pub trait Store: Send + Sync + 'static {
    /// The entries of `keys`, in their order, all of one moment.
    ///
    /// # Errors
    /// The store cannot be read.
    fn read(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<Entry>>>;

    /// Entries of a range in the order of their keys, all of one moment.
    ///
    /// # Errors
    /// The store cannot be read.
    fn range(&self, range: Range) -> Answer<'_, Vec<Entry>>;

    /// Every entry in the order of the keys, all of one moment.
    ///
    /// # Errors
    /// The store cannot be read.
    fn snapshot(&self) -> Answer<'_, Vec<Entry>>;

    /// The entry with the greatest key that begins with `prefix`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn last(&self, prefix: Vec<u8>) -> Answer<'_, Option<Entry>>;

    /// Applies a transaction, all of it or nothing; durable once it answers.
    /// A transaction goes on where its future is dropped.
    ///
    /// # Errors
    /// It is too large, or the store cannot be written. In the latter case it is
    /// not known whether the transaction took effect: read again.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Commit>;

    /// The newest revision, as a value that changes; 0 in an empty store.
    fn newest(&self) -> watch::Receiver<Revision>;

    /// Keys with this prefix that changed after revision `after`. Waits until
    /// there is one; whoever does not want to wait for ever drops the future.
    ///
    /// # Errors
    /// The store cannot be read.
    fn watch(&self, prefix: Vec<u8>, after: Revision) -> Answer<'_, Watched>;

    /// The entry of one key.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<Entry>> {
        Box::pin(async move { Ok(self.read(vec![key]).await?.into_iter().next().flatten()) })
    }
}
