//! A fleet as a machine reassignment problem.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use types::{Code, Fleet, FleetHost, FleetVm, HostId, Problem, Rate, Rule, RuleKind, VmName};

use super::Goal;
use super::conflict;
use super::duration::duration;
use super::load::predicted;
use crate::reassign::{
    Distance, Group, GroupIndex, GroupRule, Host, HostIndex, HostSet, Model, NOWHERE, Resource, Vm,
};

/// Cost of a whole host's capacity above the threshold.
pub(super) const HOST: i64 = 1_000_000_000;
/// Cost of a VM of the least important tier running nowhere: more than all else
/// together can cost.
const UNPLACED: i64 = 1_000_000_000_000;
/// Cost of being away from home, when VMs are to return: as long as a day of moving.
const AWAY: i64 = HOST / 1000 * 86_400;
/// Amounts are scaled until the fleet's sum of each is below this.
const SUM: u128 = 1 << 32;
/// Tiers that are told apart.
const TIERS: usize = 8;
/// Rate of a link that nobody has told.
const LINK: Rate = Rate(1_000_000_000);

/// A model and the way back to names.
pub(super) struct Compiled {
    pub(super) model: Model,
    pub(super) resources: Vec<String>,
    /// What one unit of the model is of each resource.
    pub(super) unit: Vec<u64>,
    pub(super) host_of: HashMap<HostId, HostIndex>,
    /// The rule that each group comes from.
    pub(super) rules: Vec<String>,
    /// Groups that must be on one host in the end.
    pub(super) together: Vec<GroupIndex>,
    /// Hosts that are being emptied.
    pub(super) leaving: Vec<bool>,
}

pub(super) fn invalid(what: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, what)
}

/// Compiles a fleet and what is wanted of it. Where not `transient`, memory that
/// leaves a host counts as free there: such an assignment needs an order.
pub(super) fn compile(fleet: &Fleet, goal: &Goal, transient: bool) -> Result<Compiled, Problem> {
    let host_of = names(fleet)?;
    let resources: Vec<String> = {
        let all: BTreeSet<&String> = fleet.hosts.iter().flat_map(|h| h.capacity.keys()).collect();
        all.into_iter().cloned().collect()
    };
    let unit = units(fleet, &resources)?;
    let leaving = leaving(fleet, goal, &host_of)?;
    let scaled = |amount: u64, r: usize| (amount / unit[r]) as i64;
    let threshold = thresholds(fleet, goal, &resources);
    let domains = labels(fleet.hosts.iter().map(|h| h.domain.as_ref()));
    let hosts: Vec<Host> = fleet
        .hosts
        .iter()
        .zip(&domains)
        .map(|(host, domain)| {
            let capacity: Vec<i64> = (0..resources.len())
                .map(|r| scaled(host.capacity.get(&resources[r]).copied().unwrap_or(0), r))
                .collect();
            let safety = capacity.iter().zip(&threshold);
            let safety = safety.map(|(c, t)| (i128::from(*c) * i128::from(*t) / 10_000) as i64);
            Host {
                safety: safety.collect(),
                capacity,
                domain: *domain,
                neighbourhood: 0,
                running_cost: 0,
            }
        })
        .collect();
    let mean = |r: usize| {
        let sum: i64 = hosts.iter().map(|h| h.capacity[r]).sum();
        (sum / hosts.len().max(1) as i64).max(1)
    };
    let kinds = resources.iter().enumerate().map(|(r, name)| Resource {
        transient: transient && name == "memory",
        weight: (HOST / mean(r)).max(1),
    });
    let mut compiled = Compiled {
        model: Model {
            resources: kinds.collect(),
            hosts,
            distance: Distance::default(),
            ..Model::default()
        },
        resources,
        unit,
        host_of,
        rules: Vec::new(),
        together: Vec::new(),
        leaving,
    };
    compiled.vms(fleet, goal)?;
    compiled.groups(fleet)?;
    conflict::refuse(fleet)?;
    Ok(compiled)
}

/// Hosts by name.
fn names(fleet: &Fleet) -> Result<HashMap<HostId, HostIndex>, Problem> {
    if fleet.hosts.is_empty() {
        return Err(invalid("the fleet has no host"));
    }
    let mut host_of = HashMap::new();
    for (i, host) in fleet.hosts.iter().enumerate() {
        if host_of.insert(host.name.clone(), i as HostIndex).is_some() {
            return Err(invalid(format!("host {} stands there twice", host.name)));
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = fleet.vms.iter().find(|vm| !seen.insert(&vm.name)) {
        return Err(invalid(format!("VM {} stands there twice", twice.name)));
    }
    Ok(host_of)
}

/// The power of two by which each resource is divided.
fn units(fleet: &Fleet, resources: &[String]) -> Result<Vec<u64>, Problem> {
    for vm in &fleet.vms {
        let named = vm.demand.iter().chain(&vm.reserved).map(|(name, _)| name);
        if let Some(odd) = named.chain(vm.history.keys()).find(|n| !resources.contains(n)) {
            return Err(invalid(format!("VM {} needs {odd}, which no host has", vm.name)));
        }
    }
    let unit = |name: &String| {
        let offered = fleet.hosts.iter().filter_map(|h| h.capacity.get(name));
        let used = fleet.vms.iter().map(|vm| predicted(vm, name));
        let sum: u128 = offered.copied().chain(used).map(u128::from).sum();
        let mut unit = 1u64;
        while sum / u128::from(unit) > SUM {
            unit *= 2;
        }
        unit
    };
    Ok(resources.iter().map(unit).collect())
}

fn leaving(
    fleet: &Fleet,
    goal: &Goal,
    host_of: &HashMap<HostId, HostIndex>,
) -> Result<Vec<bool>, Problem> {
    let mut leaving = vec![false; fleet.hosts.len()];
    if let Goal::Drain(hosts) = goal {
        for host in hosts {
            let index = host_of.get(host).ok_or_else(|| {
                Problem::new(Code::HostUnknown, format!("there is no host {host}"))
            })?;
            leaving[*index as usize] = true;
        }
    }
    Ok(leaving)
}

/// For each resource, from which share of a host on use costs, in hundredths of a
/// percent. To balance, that is a little above the fleet's mean.
fn thresholds(fleet: &Fleet, goal: &Goal, resources: &[String]) -> Vec<u32> {
    let policy = fleet.policy.threshold_percent.min(100) * 100;
    let mean = |name: &String| {
        let offered = fleet.hosts.iter().filter_map(|h| h.capacity.get(name));
        let offered: u128 = offered.map(|a| u128::from(*a)).sum();
        let used: u128 = fleet.vms.iter().map(|vm| u128::from(predicted(vm, name))).sum();
        ((used * 10_500 / offered.max(1)) as u32).min(policy)
    };
    let balance = *goal == Goal::Balance;
    resources.iter().map(|name| if balance { mean(name) } else { policy }).collect()
}

/// Texts as numbers; each absent text is one of its own.
pub(super) fn labels<'a>(texts: impl Iterator<Item = Option<&'a String>>) -> Vec<u32> {
    let mut known: BTreeMap<&String, u32> = BTreeMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    texts
        .map(|text| match text {
            Some(text) => *known.entry(text).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect()
}

/// Rank of a VM's tier: 0 is the most important.
pub(super) fn rank(fleet: &Fleet, vm: &FleetVm) -> usize {
    let tiers = &fleet.policy.tiers;
    tiers.iter().position(|t| *t == vm.tier).unwrap_or(tiers.len()).min(TIERS - 1)
}

/// The slowest link.
fn slowest_link(fleet: &Fleet) -> Rate {
    fleet.hosts.iter().map(link).min().unwrap_or(LINK)
}

/// The rate of a host's link.
pub(super) fn link(host: &FleetHost) -> Rate {
    host.link.filter(|rate| rate.0 > 0).unwrap_or(LINK)
}

impl Compiled {
    fn vms(&mut self, fleet: &Fleet, goal: &Goal) -> Result<(), Problem> {
        let mut sets: HashMap<Vec<bool>, u32> = HashMap::new();
        let mut known: HashMap<SetKey<'_>, u32> = HashMap::new();
        let link = slowest_link(fleet);
        for vm in &fleet.vms {
            let origin = self.host(vm, vm.host.as_ref())?;
            let mut preferred = None;
            if *goal == Goal::Restore && vm.home.is_some() {
                let home = self.host(vm, vm.home.as_ref())?;
                preferred = Some((self.set(&mut sets, |h| h == home), AWAY));
            }
            vm.pinned.iter().try_for_each(|p| self.host(vm, Some(p)).map(|_| ()))?;
            let key = SetKey::of(fleet, vm, origin);
            let allowed = match known.get(&key) {
                Some(set) => *set,
                None => {
                    let leaving = std::mem::take(&mut self.leaving);
                    let may = |h: HostIndex| may(fleet, &key, h, &leaving);
                    let set = self.set(&mut sets, may);
                    self.leaving = leaving;
                    known.insert(key, set);
                    set
                }
            };
            let demand = self.resources.iter().zip(&self.unit);
            let demand = demand.map(|(name, unit)| predicted(vm, name).div_ceil(*unit) as i64);
            let importance = (TIERS - rank(fleet, vm)) as i64;
            let took = duration(vm, link).as_millis() as i128;
            let per_second = i64::from(fleet.policy.second_costs) * (HOST / 1000);
            self.model.vms.push(Vm {
                demand: demand.collect(),
                groups: Vec::new(),
                origin,
                move_cost: (took * i128::from(per_second) / 1000)
                    .clamp(1, i128::from(UNPLACED / 100)) as i64,
                allowed: Some(allowed),
                preferred,
                unplaced_cost: importance * UNPLACED,
                stay_cost: importance * UNPLACED / 2,
            });
        }
        Ok(())
    }

    fn host(&self, vm: &FleetVm, host: Option<&HostId>) -> Result<HostIndex, Problem> {
        let Some(host) = host else { return Ok(NOWHERE) };
        self.host_of.get(host).copied().ok_or_else(|| {
            let what = format!("VM {} names host {host}, which the fleet does not have", vm.name);
            Problem::new(Code::HostUnknown, what)
        })
    }

    fn set(&mut self, sets: &mut HashMap<Vec<bool>, u32>, keep: impl Fn(u32) -> bool) -> u32 {
        let count = self.model.hosts.len();
        let members: Vec<bool> = (0..count as HostIndex).map(&keep).collect();
        *sets.entry(members).or_insert_with(|| {
            self.model.host_sets.push(HostSet::of(count, &keep));
            self.model.host_sets.len() as u32 - 1
        })
    }

    fn groups(&mut self, fleet: &Fleet) -> Result<(), Problem> {
        let vms = fleet.vms.iter().enumerate();
        let vm_of: HashMap<&VmName, usize> = vms.map(|(i, vm)| (&vm.name, i)).collect();
        for rule in &fleet.rules {
            let group = self.model.groups.len() as GroupIndex;
            let mut members = BTreeSet::new();
            for name in &rule.vms {
                let vm = vm_of.get(name).ok_or_else(|| {
                    let what = format!("rule {} names VM {name}, which there is not", rule.name);
                    Problem::new(Code::VmUnknown, what)
                })?;
                members.insert(*vm);
            }
            let rule_of = self.rule(rule, members.len())?;
            members.into_iter().for_each(|vm| self.model.vms[vm].groups.push(group));
            if rule.kind == RuleKind::Together {
                self.together.push(group);
            }
            self.rules.push(rule.name.clone());
            self.model.groups.push(Group { rule: rule_of, needs: Vec::new() });
        }
        Ok(())
    }

    fn rule(&self, rule: &Rule, members: usize) -> Result<GroupRule, Problem> {
        let mut of = GroupRule::default();
        let pairs = (members * members.saturating_sub(1) / 2).max(1) as i64;
        match rule.kind {
            RuleKind::Apart => of.exclusive = true,
            RuleKind::RatherApart => of.pull = -HOST / 100,
            RuleKind::Together => of.pull = (UNPLACED / 10 / pairs).max(1),
            RuleKind::RatherTogether => of.pull = HOST / 100,
            RuleKind::Spread { domains } => of.spread = domains,
        }
        let hosts = self.model.hosts.len();
        let there: BTreeSet<u32> = self.model.hosts.iter().map(|h| h.domain).collect();
        let refuse = |wanted: usize, kind: &str, have: usize| {
            invalid(format!("rule {} asks for {wanted} {kind}, and there are {have}", rule.name))
                .remedy("take VMs out of the rule, or add hosts")
        };
        if of.exclusive && members > hosts {
            return Err(refuse(members, "hosts", hosts));
        }
        if of.spread as usize > there.len().min(members) {
            return Err(refuse(of.spread as usize, "domains", there.len().min(members)));
        }
        Ok(of)
    }
}

/// VMs with the same key may run on the same hosts.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct SetKey<'a> {
    features: &'a [String],
    pinned: &'a [HostId],
    barred: Vec<&'a HostId>,
    site: Option<&'a String>,
    /// Where the VM is, if that host is cordoned.
    stays: HostIndex,
}

impl<'a> SetKey<'a> {
    pub(super) fn of(fleet: &'a Fleet, vm: &'a FleetVm, origin: HostIndex) -> Self {
        let host = fleet.hosts.get(origin as usize);
        Self {
            features: &vm.cpu_features,
            pinned: &vm.pinned,
            barred: vm.barred.keys().collect(),
            site: host.and_then(|h| h.site.as_ref()),
            stays: if host.is_some_and(|h| h.cordoned) { origin } else { NOWHERE },
        }
    }
}

pub(super) fn may(fleet: &Fleet, key: &SetKey<'_>, index: HostIndex, leaving: &[bool]) -> bool {
    let host = &fleet.hosts[index as usize];
    !leaving[index as usize]
        && (!host.cordoned || key.stays == index)
        && !key.barred.contains(&&host.name)
        && (key.pinned.is_empty() || key.pinned.contains(&host.name))
        && (key.site.is_none() || host.site.is_none() || host.site.as_ref() == key.site)
        && key.features.iter().all(|f| host.cpu_features.contains(f))
}
