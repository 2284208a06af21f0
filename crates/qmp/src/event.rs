//! Events, in order, with a mark where some were missed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
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
        /// When it happened, by QEMU's own time stamp; when it was read, without one.
        at: Instant,
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

/// QEMU's wall clock.
#[derive(Deserialize)]
struct Stamp {
    seconds: u64,
    microseconds: u64,
}

/// A stamp older than this is a clock that was set, not an event that waited.
const OLDEST: Duration = Duration::from_secs(600);

/// The moment a stamp means, on this process's monotonic clock: an event may have
/// waited for its reader.
pub(crate) fn happened(stamp: Option<&Value>) -> Instant {
    let now = Instant::now();
    let age = stamp.and_then(|s| Stamp::deserialize(s).ok()).and_then(|stamp| {
        let since = Duration::from_secs(stamp.seconds)
            .checked_add(Duration::from_micros(stamp.microseconds))?;
        SystemTime::now().duration_since(UNIX_EPOCH.checked_add(since)?).ok()
    });
    age.filter(|age| *age < OLDEST).and_then(|age| now.checked_sub(age)).unwrap_or(now)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stamp_tells_how_long_an_event_has_waited() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let stamp = |seconds: u64| json!({ "seconds": seconds, "microseconds": 0 });
        let waited = happened(Some(&stamp(now.as_secs() - 5))).elapsed();
        assert!((5..=7).contains(&waited.as_secs()), "{waited:?}");
        for odd in [stamp(now.as_secs() + 50), stamp(1), stamp(u64::MAX), json!("soon")] {
            assert!(happened(Some(&odd)).elapsed() < Duration::from_secs(1), "{odd}");
        }
        assert!(happened(None).elapsed() < Duration::from_secs(1));
    }
}
