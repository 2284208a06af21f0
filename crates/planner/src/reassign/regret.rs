//! Where the cost is that could be saved.

use super::model::HostIndex;
use super::state::State;
use crate::chance::Chance;

/// Hosts by how much of the fleet's cost would be saved if they were used better.
///
/// Where the VMs need more of a resource than is below all thresholds, load above
/// them is not to be avoided, and a host below its own wastes what it has; otherwise a
/// host above its threshold costs what it would not have to.
#[derive(Debug, Default)]
pub(super) struct Regret {
    hosts: Vec<HostIndex>,
    /// Sum of the regrets up to each host.
    sums: Vec<i64>,
}

impl Regret {
    /// Looks at these hosts.
    pub(super) fn look(&mut self, state: &State<'_>, hosts: &[HostIndex]) {
        self.hosts.clear();
        self.sums.clear();
        let mut sum = 0;
        for &host in hosts {
            let regret = of(state, host);
            if regret > 0 {
                sum += regret;
                self.hosts.push(host);
                self.sums.push(sum);
            }
        }
    }

    /// One of them, as likely as its share of the sum.
    pub(super) fn pick(&self, chance: &mut Chance) -> Option<HostIndex> {
        let at = chance.below(*self.sums.last()? as usize) as i64;
        self.hosts.get(self.sums.partition_point(|sum| *sum <= at)).copied()
    }
}

fn of(state: &State<'_>, host: HostIndex) -> i64 {
    let core = state.core;
    let over = state.over(host);
    let slack = &core.slack[host as usize * core.resources..][..core.resources];
    let wrong = |amount: i64, inevitable: bool| (if inevitable { -amount } else { amount }).max(0);
    let loads = over.iter().zip(&core.scarce).zip(&core.weight);
    let loads: i64 = loads.map(|((over, scarce), weight)| weight * wrong(*over, *scarce)).sum();
    let balances = core.balances.iter().zip(&core.lopsided).map(|(b, lopsided)| {
        let free = |i: usize| slack[i] - over[i];
        b.weight * wrong(b.target * free(b.first) - free(b.second), *lopsided)
    });
    loads + balances.sum::<i64>()
}
