//! The trigger: armed for one point of one party, it makes the fault when the
//! party comes there, before the party goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use lab::points::{Points, Reached};

use super::cells::Party;
use super::fault::Hands;

/// What waits to strike.
#[derive(Debug)]
struct Armed {
    party: Party,
    point: String,
    hands: Hands,
    struck: Sender<Struck>,
}

/// A fault that was made.
#[derive(Debug)]
pub(super) struct Struck {
    /// When it began.
    pub(super) at: Instant,
    /// Why it could not be made, if it could not.
    pub(super) failed: Option<String>,
}

/// Which namespace is which host, and which host the VM leaves.
#[derive(Debug, Default)]
struct Where {
    hosts: BTreeMap<PathBuf, &'static str>,
    source: String,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Option<Armed>,
    place: Where,
    /// How often each point was reached, for those who make tables.
    seen: BTreeMap<String, u64>,
}

/// Listens to the programs of one lab.
#[derive(Debug)]
pub(super) struct Trigger {
    shared: Arc<Mutex<Shared>>,
    _points: Points,
}

impl Trigger {
    /// Listens on a socket.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn listen(socket: &Path) -> Result<Self> {
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let hearing = Arc::clone(&shared);
        let points = Points::listen(socket, move |reached| {
            if let Some(armed) = hear(&hearing, &reached) {
                let at = Instant::now();
                let failed = armed.hands.strike(reached.pid).err().map(|e| format!("{e:#}"));
                // Nobody waits any more where the run was given up.
                let _ = armed.struck.send(Struck { at, failed });
            }
        })?;
        Ok(Self { shared, _points: points })
    }

    /// Tells which network namespace is which host.
    pub(super) fn place(&self, hosts: BTreeMap<PathBuf, &'static str>) {
        self.lock().place.hosts = hosts;
    }

    /// Arms for one point; the receiver hears when it was reached and struck.
    pub(super) fn arm(
        &self,
        source: &str,
        party: Party,
        point: &str,
        hands: Hands,
    ) -> Receiver<Struck> {
        let (struck, heard) = channel();
        let mut shared = self.lock();
        source.clone_into(&mut shared.place.source);
        shared.armed = Some(Armed { party, point: point.to_owned(), hands, struck });
        heard
    }

    /// Nothing strikes any more; false: it has struck or strikes just now.
    pub(super) fn disarm(&self) -> bool {
        self.lock().armed.take().is_some()
    }

    /// How often each party came to each point.
    pub(super) fn seen(&self) -> BTreeMap<String, u64> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is armed for this point.
fn hear(shared: &Mutex<Shared>, reached: &Reached) -> Option<Armed> {
    let (program, point) = reached.point.split_once(':')?;
    let namespace = std::fs::read_link(format!("/proc/{}/ns/net", reached.pid)).ok()?;
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let leaves = shared.place.hosts.get(&namespace).map(|host| **host == *shared.place.source);
    let party = match (program, leaves) {
        ("controller", _) => Party::Controller,
        ("agent", Some(true)) => Party::Source,
        ("agent", Some(false)) => Party::Destination,
        ("carrier", Some(true)) => Party::SourceCarrier,
        ("carrier", Some(false)) => Party::DestinationCarrier,
        _ => return None,
    };
    *shared.seen.entry(format!("{party:?} {point}")).or_default() += 1;
    let armed = shared.armed.as_ref().is_some_and(|a| a.party == party && a.point == point);
    if armed { shared.armed.take() } else { None }
}
