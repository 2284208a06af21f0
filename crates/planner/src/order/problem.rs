//! What is to be ordered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use types::Rate;

/// Hosts, links and moves; hosts, links and moves are named by their place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The links.
    pub links: Vec<Link>,
    /// The link that a move from one site to another crosses besides the hosts' own.
    pub between: BTreeMap<(usize, usize), usize>,
    /// The moves.
    pub moves: Vec<Move>,
    /// Moves of the whole fleet at once; `None`: any number.
    pub at_once: Option<u32>,
}

/// A host before the first move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Free of each resource, what leaving VMs will free not counted. Negative on
    /// a host that is overfull; nothing goes there until enough has left.
    pub free: Vec<i64>,
    /// The link that VMs leave by.
    pub leave: usize,
    /// The link that VMs arrive by; the same as `leave` where both share it.
    pub arrive: usize,
    /// Its site.
    pub site: usize,
    /// Moves to and from it at once; `None`: any number.
    pub at_once: Option<u32>,
}

/// What several moves share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// All transfers together.
    pub rate: Rate,
    /// Transfers at once; `None`: any number.
    pub at_once: Option<u32>,
}

/// A VM that changes its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Move {
    /// The host it is on.
    pub from: usize,
    /// The host it is to be on.
    pub to: usize,
    /// What it takes of each resource; on both hosts while it moves.
    pub needs: Vec<i64>,
    /// Rates it may run at and how long it then takes, fastest first; from a
    /// forecast. A rate at which it would not converge is left out.
    pub paces: Vec<Pace>,
    /// Lower tiers are done earlier, as far as room allows.
    pub tier: u32,
    /// Moves that must have ended before it starts.
    pub after: Vec<usize>,
    /// Hosts it may wait on if there is no other way.
    pub via: Vec<usize>,
}

/// A rate and the time a migration takes at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Taken from every link on the way.
    pub rate: Rate,
    /// From start to end.
    pub time: Duration,
}

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Impossible {
    /// Something is named that is not there, or a number makes no sense.
    Malformed(String),
    /// These moves wait for each other to end.
    Circle(Vec<usize>),
    /// No pace of this move fits the links on its way.
    TooSlow(usize),
    /// These moves were left, each without room at its destination, and none of
    /// them can wait elsewhere.
    NoRoom(Vec<Short>),
}

/// What a move lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// The move.
    pub of: usize,
    /// Where it cannot go.
    pub host: usize,
    /// The resource of which too little is free there.
    pub resource: usize,
    /// How much more would have to be free.
    pub missing: i64,
}

impl Problem {
    /// The links a VM crosses from one host to another.
    pub(super) fn path(&self, from: usize, to: usize) -> impl Iterator<Item = usize> {
        let (a, b) = (&self.hosts[from], &self.hosts[to]);
        let between = self.between.get(&(a.site, b.site)).copied();
        let arrive = (b.arrive != a.leave).then_some(b.arrive);
        [Some(a.leave), arrive, between].into_iter().flatten()
    }

    /// Whether everything that is named is there and can be done at all.
    pub(super) fn check(&self) -> Result<(), Impossible> {
        let resources = self.hosts.first().map_or(0, |h| h.free.len());
        let bad = |what: String| Err(Impossible::Malformed(what));
        for (i, host) in self.hosts.iter().enumerate() {
            if host.free.len() != resources {
                return bad(format!("host {i} has {} resources, not {resources}", host.free.len()));
            }
            if host.leave.max(host.arrive) >= self.links.len() {
                return bad(format!("host {i} has a link that is not there"));
            }
        }
        if self.between.values().any(|l| *l >= self.links.len()) {
            return bad("a link between sites is not there".to_owned());
        }
        for (i, m) in self.moves.iter().enumerate() {
            let hosts = [m.from, m.to].into_iter().chain(m.via.iter().copied());
            if hosts.max() >= Some(self.hosts.len()) || m.from == m.to {
                return bad(format!("move {i} has no two hosts that are there"));
            }
            if m.needs.len() != resources || m.needs.iter().any(|n| *n < 0) {
                return bad(format!("move {i} does not say what it needs of each resource"));
            }
            if m.after.iter().any(|a| *a >= self.moves.len()) {
                return bad(format!("move {i} waits for one that is not there"));
            }
            let fits = |p: &Pace| self.path(m.from, m.to).all(|l| p.rate <= self.links[l].rate);
            if !m.paces.iter().any(fits) {
                return Err(Impossible::TooSlow(i));
            }
        }
        self.circle()
    }

    /// Whether some moves wait for each other to end.
    fn circle(&self) -> Result<(), Impossible> {
        let mut left: Vec<usize> = (0..self.moves.len()).collect();
        loop {
            let waits = |m: &usize| self.moves[*m].after.iter().any(|a| left.contains(a));
            let next: Vec<usize> = left.iter().copied().filter(waits).collect();
            match next.len() {
                0 => return Ok(()),
                n if n == left.len() => return Err(Impossible::Circle(left)),
                _ => left = next,
            }
        }
    }
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the problem is malformed: {what}"),
            Self::Circle(moves) => write!(f, "the moves {moves:?} wait for each other to end"),
            Self::TooSlow(m) => {
                write!(f, "move {m} converges at no rate that the links on its way offer")
            }
            Self::NoRoom(left) => {
                write!(f, "no order was found:")?;
                for s in left {
                    write!(
                        f,
                        " move {} needs {} more of resource {} on host {};",
                        s.of, s.missing, s.resource, s.host
                    )?;
                }
                write!(f, " free some of it, or allow another host to wait on")
            }
        }
    }
}

impl std::error::Error for Impossible {}
