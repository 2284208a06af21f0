//! Placing VMs one at a time into a large fleet, without planning anew.

use types::{Code, Fleet, FleetVm, HostId, Problem};

use super::Goal;
use super::compile::{Compiled, SetKey, compile, may};
use super::load::predicted;
use crate::reassign::{HostIndex, NOWHERE};

/// A fleet laid out for placing VMs.
pub struct Placer<'f> {
    fleet: &'f Fleet,
    compiled: Compiled,
    /// What each host's VMs use of each resource.
    used: Vec<Vec<i64>>,
    /// Where the VMs of each rule are.
    hosts_of: Vec<Vec<HostIndex>>,
}

impl<'f> Placer<'f> {
    /// Lays out a fleet.
    ///
    /// # Errors
    /// The fleet is contradictory.
    pub fn new(fleet: &'f Fleet) -> Result<Self, Problem> {
        let compiled = compile(fleet, &Goal::Settle, false)?;
        let model = &compiled.model;
        let mut used = vec![vec![0; model.resources.len()]; model.hosts.len()];
        let mut hosts_of = vec![Vec::new(); model.groups.len()];
        for vm in model.vms.iter().filter(|vm| vm.origin != NOWHERE) {
            let used = &mut used[vm.origin as usize];
            used.iter_mut().zip(&vm.demand).for_each(|(used, demand)| *used += demand);
            vm.groups.iter().for_each(|g| hosts_of[*g as usize].push(vm.origin));
        }
        Ok(Self { fleet, compiled, used, hosts_of })
    }

    /// The best host for a new VM that joins the rules of these names: the one whose
    /// load above the threshold rises least, of equals the one with the largest share
    /// left.
    ///
    /// # Errors
    /// `invalid-request`: a rule or resource does not exist. `no-host`: no host has
    /// room and everything else that the VM needs.
    pub fn place(&self, vm: &FleetVm, rules: &[&str]) -> Result<&'f HostId, Problem> {
        let groups = rules.iter().map(|rule| self.group(rule)).collect::<Result<Vec<_>, _>>()?;
        let named = vm.demand.keys().chain(vm.reserved.keys());
        if let Some(odd) = { named }.find(|name| !self.compiled.resources.contains(name)) {
            let what = format!("VM {} needs {odd}, which no host has", vm.name);
            return Err(Problem::new(Code::InvalidRequest, what));
        }
        let units = self.compiled.resources.iter().zip(&self.compiled.unit);
        let demand: Vec<i64> =
            units.map(|(name, unit)| predicted(vm, name).div_ceil(*unit) as i64).collect();
        let key = SetKey::of(self.fleet, vm, NOWHERE);
        let hosts = 0..self.fleet.hosts.len() as HostIndex;
        let fitting = hosts
            .filter(|h| may(self.fleet, &key, *h, &self.compiled.leaving))
            .filter(|h| groups.iter().all(|g| self.lets_in(*g, *h)))
            .filter_map(|h| Some((self.cost(h, &demand)?, h)));
        let named = fitting.map(|(cost, h)| (cost, &self.fleet.hosts[h as usize].name));
        let best = named.min().map(|(_, name)| name);
        best.ok_or_else(|| {
            Problem::new(Code::NoHost, format!("no host can take {}", vm.name))
                .remedy("`godwit simulate` says host by host why, and what would change it")
        })
    }

    fn group(&self, rule: &str) -> Result<usize, Problem> {
        self.compiled
            .rules
            .iter()
            .position(|r| r == rule)
            .ok_or_else(|| Problem::new(Code::InvalidRequest, format!("there is no rule {rule}")))
    }

    /// Whether a rule lets one more VM onto a host.
    fn lets_in(&self, group: usize, host: HostIndex) -> bool {
        let there = self.hosts_of[group].contains(&host);
        if self.compiled.together.contains(&(group as u32)) {
            return there || self.hosts_of[group].is_empty();
        }
        !(self.compiled.model.groups[group].rule.exclusive && there)
    }

    /// Rise of the load above the threshold; then how full the host is, in thousandths.
    fn cost(&self, host: HostIndex, demand: &[i64]) -> Option<(i64, i64)> {
        let (used, known) = (&self.used[host as usize], &self.compiled.model.hosts[host as usize]);
        let (mut rise, mut full) = (0, 0);
        for (r, resource) in self.compiled.model.resources.iter().enumerate() {
            let after = used[r] + demand[r];
            if after > known.capacity[r] {
                return None;
            }
            let over = |use_: i64| (use_ - known.safety[r]).max(0);
            rise += resource.weight * (over(after) - over(used[r]));
            full = full.max(after * 1000 / known.capacity[r].max(1));
        }
        Some((rise, full))
    }
}
