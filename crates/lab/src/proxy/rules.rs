//! What is done to the traffic of each host, and what was counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::HostId;

/// What is done to connections to a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Added in each direction.
    pub(super) delay: Duration,
    /// Nothing is read or written; connections stay.
    pub(super) cut: bool,
    /// Nobody listens.
    pub(super) refuse: bool,
    /// Rises with every reset of the connections there are.
    pub(super) resets: u64,
}

impl Rules {
    fn change(&mut self, change: Change) {
        match change {
            Change::Delay(delay) => self.delay = delay,
            Change::Cut => self.cut = true,
            Change::Refuse => self.refuse = true,
            Change::Restore => *self = Self { resets: self.resets, ..Self::default() },
            Change::Reset => self.resets += 1,
        }
    }

    /// Most bytes held in one direction of a connection: enough that a delayed
    /// connection still carries 1 Gbit/s, and never without bound.
    pub(super) fn room(self) -> usize {
        const PROMPT: u128 = 256 << 10;
        const MOST: u128 = 64 << 20;
        const BYTES_PER_MILLISECOND: u128 = 125_000;
        let room = PROMPT + self.delay.as_millis() * BYTES_PER_MILLISECOND;
        usize::try_from(room.min(MOST)).unwrap_or(usize::MAX)
    }
}

/// What is to become of the rules.
#[derive(Debug, Clone, Copy)]
enum Change {
    Delay(Duration),
    Cut,
    Refuse,
    Restore,
    Reset,
}

/// A host as the proxy keeps it.
#[derive(Debug)]
pub(super) struct FrontState {
    host: HostId,
    pub(super) rules: watch::Sender<Rules>,
    pub(super) counts: Counts,
}

/// Counters since the proxy started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) to_host: AtomicU64,
    pub(super) from_host: AtomicU64,
}

/// All hosts.
#[derive(Debug, Clone)]
pub(super) struct Fronts(Vec<Arc<FrontState>>);

impl Fronts {
    pub(super) fn new(hosts: impl Iterator<Item = HostId>) -> Self {
        let front = |host| {
            let (rules, counts) = (watch::Sender::new(Rules::default()), Counts::default());
            Arc::new(FrontState { host, rules, counts })
        };
        Self(hosts.map(front).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<FrontState>> {
        self.0.iter()
    }

    /// Does what is asked, or says why not.
    pub(super) fn handle(&self, request: Request) -> Reply {
        let (host, change) = match request {
            Request::Status {} => return Reply::Status(self.iter().map(|f| f.status()).collect()),
            Request::Set { host, delay_ms } => {
                (host, Change::Delay(Duration::from_millis(delay_ms.into())))
            }
            Request::Cut { host } => (host, Change::Cut),
            Request::Refuse { host } => (host, Change::Refuse),
            Request::Restore { host } => (host, Change::Restore),
            Request::Reset { host } => (host, Change::Reset),
        };
        let Some(front) = self.iter().find(|front| front.host.as_str() == host) else {
            let known: Vec<_> = self.iter().map(|front| front.host.as_str()).collect();
            let host: String = host.chars().take(80).collect();
            return Reply::Error(format!("no host {host:?} here; there is {}", known.join(", ")));
        };
        front.rules.send_modify(|rules| rules.change(change));
        Reply::Ok {}
    }
}

impl FrontState {
    fn status(&self) -> FrontStatus {
        let rules = *self.rules.borrow();
        FrontStatus {
            host: self.host.clone(),
            delay_ms: u32::try_from(rules.delay.as_millis()).unwrap_or(u32::MAX),
            cut: rules.cut,
            refuse: rules.refuse,
            resets: rules.resets,
            accepted: self.counts.accepted.load(Relaxed),
            open: self.counts.open.load(Relaxed),
            to_host_bytes: self.counts.to_host.load(Relaxed),
            from_host_bytes: self.counts.from_host.load(Relaxed),
        }
    }
}

/// One line to the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// Delay each direction.
    Set { host: String, delay_ms: u32 },
    /// Stop forwarding; connections stay, bytes wait.
    Cut { host: String },
    /// Undo delay, cut and refusal.
    Restore { host: String },
    /// End the connections there are with a reset in both directions.
    Reset { host: String },
    /// Refuse new connections; those there are stay.
    Refuse { host: String },
    /// Say how things are.
    Status {},
}

/// One line from the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Ok {},
    Error(String),
    Status(Vec<FrontStatus>),
}

/// How the proxy treats a host's connections, and what passed since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontStatus {
    /// The host.
    pub host: HostId,
    /// Delay in each direction in milliseconds.
    pub delay_ms: u32,
    /// Nothing is forwarded.
    pub cut: bool,
    /// New connections are refused.
    pub refuse: bool,
    /// How often connections were reset.
    pub resets: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Bytes forwarded to the host.
    pub to_host_bytes: u64,
    /// Bytes forwarded from the host.
    pub from_host_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_change_the_rules_of_one_host() {
        let fronts = Fronts::new(["host-a", "host-b"].map(|h| h.parse().unwrap()).into_iter());
        let tell = |line: &str| fronts.handle(serde_json::from_str(line).unwrap());
        let rules = || fronts.iter().map(|f| *f.rules.borrow()).collect::<Vec<_>>();
        assert_eq!(tell(r#"{"set":{"host":"host-b","delay_ms":50}}"#), Reply::Ok {});
        assert_eq!(tell(r#"{"cut":{"host":"host-b"}}"#), Reply::Ok {});
        assert_eq!(tell(r#"{"reset":{"host":"host-b"}}"#), Reply::Ok {});
        assert_eq!(tell(r#"{"refuse":{"host":"host-b"}}"#), Reply::Ok {});
        let delay = Duration::from_millis(50);
        assert_eq!(
            rules(),
            [Rules::default(), Rules { delay, cut: true, refuse: true, resets: 1 }]
        );
        assert_eq!(tell(r#"{"restore":{"host":"host-b"}}"#), Reply::Ok {});
        assert_eq!(rules()[1], Rules { resets: 1, ..Rules::default() });
        let Reply::Error(why) = tell(r#"{"cut":{"host":"host-x"}}"#) else { panic!("accepted") };
        assert!(why.contains("host-a, host-b"), "{why}");
        let Reply::Status(status) = tell(r#"{"status":{}}"#) else { panic!("no status") };
        assert_eq!(status.iter().map(|s| s.resets).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn room_grows_with_the_delay_to_a_bound() {
        let room = |ms| Rules { delay: Duration::from_millis(ms), ..Rules::default() }.room();
        assert_eq!(room(0), 256 << 10);
        assert_eq!(room(8), (256 << 10) + 1_000_000);
        assert_eq!(room(u64::from(u32::MAX)), 64 << 20);
    }
}
