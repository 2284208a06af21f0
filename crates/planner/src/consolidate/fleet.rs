//! The fleet while moves are chosen.

use super::{Host, Move, Reason, Vm};

pub(super) struct Fleet<'a> {
    pub(super) hosts: &'a [Host],
    pub(super) vms: &'a [Vm],
    /// By host: its VMs.
    pub(super) on: Vec<Vec<usize>>,
    at: Vec<usize>,
    reason: Vec<Option<Reason>>,
    expected: Vec<f64>,
    variance: Vec<f64>,
    free: Vec<Vec<i64>>,
    /// Hosts by cost of a unit of load.
    thrifty: Vec<usize>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(hosts: &'a [Host], vms: &'a [Vm]) -> Self {
        let mut thrifty: Vec<usize> = (0..hosts.len()).collect();
        thrifty.sort_by(|a, b| hosts[*a].cost.total_cmp(&hosts[*b].cost).then(a.cmp(b)));
        let mut fleet = Self {
            hosts,
            vms,
            on: vec![Vec::new(); hosts.len()],
            at: vms.iter().map(|v| v.host).collect(),
            reason: vec![None; vms.len()],
            expected: vec![0.0; hosts.len()],
            variance: vec![0.0; hosts.len()],
            free: hosts.iter().map(|h| h.free.clone()).collect(),
            thrifty,
        };
        for (vm, own) in vms.iter().enumerate() {
            fleet.on[own.host].push(vm);
            fleet.expected[own.host] += own.load.expected();
            fleet.variance[own.host] += own.load.variance();
        }
        fleet
    }

    pub(super) fn expected(&self, host: usize) -> f64 {
        self.expected[host]
    }

    /// What is left of a host with a margin of `k` deviations.
    pub(super) fn slack(&self, host: usize, k: f64) -> f64 {
        self.slack_at(host, self.expected[host], self.variance[host], k)
    }

    pub(super) fn slack_without(&self, host: usize, vm: usize, k: f64) -> f64 {
        let load = self.vms[vm].load;
        let variance = self.variance[host] - load.variance();
        self.slack_at(host, self.expected[host] - load.expected(), variance, k)
    }

    fn slack_with(&self, host: usize, vm: usize, k: f64) -> f64 {
        let load = self.vms[vm].load;
        let variance = self.variance[host] + load.variance();
        self.slack_at(host, self.expected[host] + load.expected(), variance, k)
    }

    fn slack_at(&self, host: usize, expected: f64, variance: f64, k: f64) -> f64 {
        self.hosts[host].capacity - expected - k * variance.max(0.0).sqrt()
    }

    /// Whether the VM cannot or may not move again in this round.
    pub(super) fn stays(&self, vm: usize) -> bool {
        !self.vms[vm].movable || self.at[vm] != self.vms[vm].host
    }

    fn has_room(&self, vm: usize, host: usize) -> bool {
        let needs = self.vms[vm].needs.iter().zip(&self.free[host]);
        self.hosts[host].open && needs.into_iter().all(|(needs, free)| needs <= free)
    }

    /// Of the hosts that are on and keep the margin, the one with the least slack.
    pub(super) fn best_fit(&self, vm: usize, from: usize, k: f64) -> Option<usize> {
        let fitting = (0..self.hosts.len())
            .filter(|h| *h != from && !self.on[*h].is_empty() && self.has_room(vm, *h));
        let slack = fitting.map(|h| (self.slack_with(h, vm, k), h)).filter(|(s, _)| *s >= 0.0);
        slack.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, h)| h)
    }

    /// The thriftiest host that is off and has room.
    pub(super) fn switched_on(&self, vm: usize, from: usize) -> Option<usize> {
        let off = |h: &usize| *h != from && self.on[*h].is_empty() && self.has_room(vm, *h);
        self.thrifty.iter().copied().find(off)
    }

    /// Takes a VM off its host.
    pub(super) fn lift(&mut self, vm: usize) {
        let (host, own) = (self.at[vm], &self.vms[vm]);
        self.on[host].retain(|v| *v != vm);
        self.expected[host] -= own.load.expected();
        self.variance[host] -= own.load.variance();
        self.free[host].iter_mut().zip(&own.needs).for_each(|(free, needs)| *free += needs);
    }

    /// Puts a lifted VM on a host.
    pub(super) fn put(&mut self, vm: usize, host: usize, reason: Reason) {
        let own = &self.vms[vm];
        self.at[vm] = host;
        self.reason[vm] = (host != own.host).then_some(reason);
        self.on[host].push(vm);
        self.expected[host] += own.load.expected();
        self.variance[host] += own.load.variance();
        self.free[host].iter_mut().zip(&own.needs).for_each(|(free, needs)| *free -= needs);
    }

    /// What has changed; relief first, should there be more than `most`.
    pub(super) fn moves(&self, most: usize) -> Vec<Move> {
        let moved = |reason: Reason| {
            let vms = self.reason.iter().enumerate().filter(move |(_, r)| **r == Some(reason));
            vms.map(move |(vm, _)| Move { vm, from: self.vms[vm].host, to: self.at[vm], reason })
        };
        moved(Reason::Relieve).chain(moved(Reason::Empty)).take(most).collect()
    }
}
