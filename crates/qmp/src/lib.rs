//! QEMU Machine Protocol client: commands, answers, events, features.
//!
//! One connection, used by any number of clones. Every command has a time
//! limit, every line a size limit, and events that a slow reader misses leave a
//! visible gap. Values QEMU may extend (run states, migration statuses, event
//! names) stay texts.

mod connection;
mod error;
mod event;
mod features;
mod query;

pub use connection::Client;
pub use error::QmpError;
pub use event::{Event, Events};
pub use features::Features;
pub use query::{Migration, RamStats, Status};
