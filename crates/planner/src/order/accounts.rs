//! Everything that is limited, as balances.

use types::Rate;

use super::Problem;

/// Balances: of each host its resources and its moves at once, of each link its
/// rate and its transfers at once, of the fleet its moves at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts {
    resources: usize,
    hosts: usize,
    pub(super) balance: Vec<i64>,
}

/// Where no limit is set.
const PLENTY: i64 = i64::MAX / 4;

/// Places in the balances and amounts.
pub(super) type Entries = Vec<(usize, i64)>;

impl Accounts {
    pub(super) fn of(problem: &Problem) -> Self {
        let resources = problem.hosts.first().map_or(0, |h| h.free.len());
        let limit = |at_once: Option<u32>| at_once.map_or(PLENTY, i64::from);
        let mut balance = Vec::new();
        for host in &problem.hosts {
            balance.extend(&host.free);
            balance.push(limit(host.at_once));
        }
        for link in &problem.links {
            balance.push(amount(link.rate));
            balance.push(limit(link.at_once));
        }
        balance.push(limit(problem.at_once));
        Self { resources, hosts: problem.hosts.len(), balance }
    }

    pub(super) fn room(&self, host: usize, resource: usize) -> usize {
        host * (self.resources + 1) + resource
    }

    fn moves(&self, host: usize) -> usize {
        self.room(host, self.resources)
    }

    fn rate(&self, link: usize) -> usize {
        self.hosts * (self.resources + 1) + 2 * link
    }

    fn fleet(&self) -> usize {
        self.balance.len() - 1
    }

    /// What a transfer needs besides its rate: room, and its place among the moves
    /// at once.
    pub(super) fn room_taken(&self, needs: &[i64], to: usize) -> Entries {
        let rooms = needs.iter().enumerate().filter(|(_, n)| **n > 0);
        rooms.map(|(r, n)| (self.room(to, r), *n)).collect()
    }

    /// What it holds while it runs.
    pub(super) fn held(&self, p: &Problem, from: usize, to: usize, rate: Rate) -> Entries {
        let mut entries = vec![(self.moves(from), 1), (self.moves(to), 1), (self.fleet(), 1)];
        for link in p.path(from, to) {
            entries.push((self.rate(link), amount(rate)));
            entries.push((self.rate(link) + 1, 1));
        }
        entries
    }

    pub(super) fn covers(&self, entries: &Entries) -> bool {
        entries.iter().all(|(place, amount)| self.balance[*place] >= *amount)
    }

    pub(super) fn take(&mut self, entries: &Entries) {
        entries.iter().for_each(|(place, amount)| self.balance[*place] -= amount);
    }

    pub(super) fn give(&mut self, entries: &Entries) {
        entries.iter().for_each(|(place, amount)| self.balance[*place] += amount);
    }
}

fn amount(rate: Rate) -> i64 {
    i64::try_from(rate.0).unwrap_or(PLENTY).min(PLENTY)
}
