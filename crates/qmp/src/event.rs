//! Events, in order, with a mark where some were missed.

use serde_json::Value;
use tokio::sync::broadcast;

/// Something QEMU said by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An event of QEMU.
    Named {
        /// Its name, such as `STOP`.
        name: String,
        /// Its data; `Null` if there is none.
        data: Value,
    },
    /// So many events were missed here, because nobody read them in time.
    Gap(u64),
}

impl Event {
    /// The event's name; empty for a gap.
    pub fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Gap(_) => "",
        }
    }
}

/// A reader of events.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once QEMU has closed its monitor.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Gap(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
