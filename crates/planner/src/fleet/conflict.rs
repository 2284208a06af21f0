//! Demands that no fleet of these hosts could meet, whatever its load: named with a
//! smallest set of VMs that cannot all have their way.

use std::collections::{BTreeSet, HashMap};

use types::{Fleet, FleetVm, HostId, Problem, Rule, RuleKind, VmName};

use super::compile::{invalid, labels};

/// A VM and the places that its pins and its guest's CPU features leave it.
type Choice<'a> = (&'a VmName, &'a [u32]);

/// Refuses rules that contradict each other or the pins and features of their VMs.
/// Who alone has no host at all is left out: that is told host by host elsewhere.
///
/// # Errors
/// The first contradiction, and what would end it.
pub(super) fn refuse(fleet: &Fleet) -> Result<(), Problem> {
    let mut names = BTreeSet::new();
    if let Some(twice) = fleet.rules.iter().find(|rule| !names.insert(&rule.name)) {
        return Err(invalid(format!("rule {} stands there twice", twice.name)));
    }
    let freedom = Freedom::of(fleet);
    for rule in &fleet.rules {
        match rule.kind {
            RuleKind::Together => together(rule, fleet, &freedom.choices(rule, &freedom.hosts))?,
            RuleKind::Apart => apart(rule, freedom.choices(rule, &freedom.hosts))?,
            RuleKind::Spread { domains } => {
                spread(rule, domains, &freedom.choices(rule, &freedom.domains))?;
            }
            RuleKind::RatherApart | RuleKind::RatherTogether => {}
        }
    }
    Ok(())
}

/// Where VMs may be. Those with the same pins and features share an entry.
struct Freedom<'a> {
    entry_of: HashMap<&'a VmName, usize>,
    /// For each entry the hosts, and the domains of those.
    hosts: Vec<Vec<u32>>,
    domains: Vec<Vec<u32>>,
}

impl<'a> Freedom<'a> {
    fn of(fleet: &'a Fleet) -> Self {
        let domain = labels(fleet.hosts.iter().map(|h| h.domain.as_ref()));
        let mut known: HashMap<(&[HostId], &[String]), usize> = HashMap::new();
        let mut freedom = Self { entry_of: HashMap::new(), hosts: Vec::new(), domains: Vec::new() };
        for vm in &fleet.vms {
            let next = known.len();
            let entry = *known.entry((&vm.pinned, &vm.cpu_features)).or_insert(next);
            freedom.entry_of.insert(&vm.name, entry);
            if entry == next {
                let hosts = hosts(fleet, vm);
                let domains: BTreeSet<u32> = hosts.iter().map(|h| domain[*h as usize]).collect();
                // Who may be anywhere is in nobody's way.
                let bound = hosts.len() < fleet.hosts.len();
                freedom.hosts.push(if bound { hosts } else { Vec::new() });
                freedom.domains.push(if bound {
                    domains.into_iter().collect()
                } else {
                    Vec::new()
                });
            }
        }
        freedom
    }

    /// The VMs of a rule that may be in some places only.
    fn choices(&'a self, rule: &'a Rule, places: &'a [Vec<u32>]) -> Vec<Choice<'a>> {
        let vms: BTreeSet<&VmName> = rule.vms.iter().collect();
        let each = vms.into_iter().filter_map(|vm| Some((vm, self.entry_of.get(vm)?)));
        each.map(|(vm, entry)| (vm, &places[*entry][..])).filter(|(_, p)| !p.is_empty()).collect()
    }
}

/// The hosts that a VM's pins and features leave it.
fn hosts(fleet: &Fleet, vm: &FleetVm) -> Vec<u32> {
    let fits = fleet.hosts.iter().enumerate().filter(|(_, host)| {
        (vm.pinned.is_empty() || vm.pinned.contains(&host.name))
            && vm.cpu_features.iter().all(|f| host.cpu_features.contains(f))
    });
    fits.map(|(h, _)| h as u32).collect()
}

/// VMs that must be together, and cannot.
fn together(rule: &Rule, fleet: &Fleet, choices: &[Choice<'_>]) -> Result<(), Problem> {
    for other in fleet.rules.iter().filter(|other| other.kind == RuleKind::Apart) {
        let mut both = rule.vms.iter().filter(|vm| other.vms.contains(vm));
        if let Some(first) = both.next()
            && let Some(second) = both.find(|vm| *vm != first)
        {
            let what = format!(
                "rule {} wants {first} and {second} on one host, and rule {} on two",
                rule.name, other.name
            );
            return Err(invalid(what).remedy("take one of them out of one of the rules"));
        }
    }
    let meet = |of: &[Choice<'_>]| match of {
        [] => true,
        [(_, first), others @ ..] => {
            first.iter().any(|place| others.iter().all(|(_, places)| places.contains(place)))
        }
    };
    let Some(few) = smallest(choices.to_vec(), |of| !meet(of)) else { return Ok(()) };
    let what = format!(
        "rule {} wants its VMs on one host, and pins and CPU features leave none to all of {}",
        rule.name,
        listed(&few)
    );
    Err(invalid(what).remedy("pin one of them to a host of the others, or take it out of the rule"))
}

/// VMs that must be on different hosts, of which they may use too few.
fn apart(rule: &Rule, choices: Vec<Choice<'_>>) -> Result<(), Problem> {
    let crowd =
        |of: &[Choice<'_>]| of.iter().any(|(_, p)| p.len() < of.len()) && reach(of) < of.len();
    let Some(few) = smallest(choices, crowd) else { return Ok(()) };
    let what = format!(
        "rule {} wants its VMs on different hosts, and pins and CPU features leave only {} to {}",
        rule.name,
        places(&few),
        listed(&few)
    );
    Err(invalid(what).remedy("pin one of them elsewhere too, or take it out of the rule"))
}

/// VMs that must be in so many domains, and may be in too few.
fn spread(rule: &Rule, domains: u32, choices: &[Choice<'_>]) -> Result<(), Problem> {
    let vms: BTreeSet<&VmName> = rule.vms.iter().collect();
    let anywhere = vms.len() - choices.len();
    if reach(choices) + anywhere >= domains as usize {
        return Ok(());
    }
    let what = format!(
        "rule {} asks for {domains} domains, and pins and CPU features leave only {} to {}",
        rule.name,
        places(choices),
        listed(choices)
    );
    Err(invalid(what).remedy("pin one of them elsewhere too, or ask for fewer domains"))
}

/// In how many different places the VMs can be at most (bipartite matching by
/// augmenting paths).
fn reach(of: &[Choice<'_>]) -> usize {
    let places = of.iter().flat_map(|(_, p)| p.iter()).max().map_or(0, |max| *max as usize + 1);
    let mut holder: Vec<Option<usize>> = vec![None; places];
    let mut seen = vec![usize::MAX; places];
    (0..of.len()).filter(|vm| seat(of, *vm, *vm, &mut holder, &mut seen)).count()
}

/// Finds the VM a place, for which others move on; `round` marks what was looked at.
fn seat(
    of: &[Choice<'_>],
    vm: usize,
    round: usize,
    holder: &mut [Option<usize>],
    seen: &mut [usize],
) -> bool {
    for &place in of[vm].1 {
        let place = place as usize;
        if seen[place] == round {
            continue;
        }
        seen[place] = round;
        let free = holder[place].is_none_or(|other| seat(of, other, round, holder, seen));
        if free {
            holder[place] = Some(vm);
            return true;
        }
    }
    false
}

/// Of VMs that conflict a set of which none can be left out; `None` if they do not.
fn smallest<'a>(
    mut of: Vec<Choice<'a>>,
    conflict: impl Fn(&[Choice<'a>]) -> bool,
) -> Option<Vec<Choice<'a>>> {
    if !conflict(&of) {
        return None;
    }
    // Large parts first, so that few of many are soon found.
    let mut part = of.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < of.len() {
            let mut left = of.clone();
            left.drain(from..(from + part).min(of.len()));
            if conflict(&left) {
                of = left;
            } else {
                from += part;
            }
        }
        part /= 2;
    }
    Some(of)
}

fn listed(of: &[Choice<'_>]) -> String {
    let names: Vec<&str> = of.iter().map(|(vm, _)| vm.as_str()).collect();
    names.join(", ")
}

fn places(of: &[Choice<'_>]) -> usize {
    of.iter().flat_map(|(_, places)| places.iter()).collect::<BTreeSet<_>>().len()
}
