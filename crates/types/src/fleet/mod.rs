//! A whole fleet as one document: what the planner is asked about.

mod document;
mod plan;
mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Bytes, HostId, Problem, Rate, Tier, VmName};

pub use document::{PlanDocument, PlanGoal};
pub use plan::{Admission, Blocked, Change, FleetPlan, Obstacle, PlannedMove, Refusal};
pub use run::{MoveState, PlanId, PlanRun, RunMove};

/// Amounts by resource: `memory` in bytes, `cpu` in thousandths of a core, and
/// whatever else hosts have.
pub type Amounts = BTreeMap<String, u64>;

/// Hosts, VMs, rules and policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The hosts.
    pub hosts: Vec<FleetHost>,
    /// The VMs.
    #[serde(default)]
    pub vms: Vec<FleetVm>,
    /// What holds among VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What the fleet's owner wants.
    #[serde(default)]
    pub policy: Policy,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetHost {
    /// Its name.
    pub name: HostId,
    /// VMs move within a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Hosts of one domain (a rack, a room) fail together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What VMs may use of it.
    pub capacity: Amounts,
    /// Gets no more VMs; those that are there may stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// CPU features that a guest can have, by QEMU's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_features: Vec<String>,
    /// Rate of its link for migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Rate>,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetVm {
    /// Its name.
    pub name: VmName,
    /// Where it runs; absent: nowhere yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<HostId>,
    /// How important it is.
    #[serde(default)]
    pub tier: Tier,
    /// What it uses.
    pub demand: Amounts,
    /// What it must always be able to use.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub reserved: Amounts,
    /// What it used over time, the oldest first. Its load is predicted from that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub history: BTreeMap<String, Vec<u64>>,
    /// CPU features that its guest has been given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_features: Vec<String>,
    /// It may run on these hosts only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<HostId>,
    /// Hosts that cannot take it whatever their room, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub barred: BTreeMap<HostId, Problem>,
    /// Memory that it writes each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_rate: Option<Bytes>,
}

/// What holds among VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it asks.
    #[serde(flatten)]
    pub kind: RuleKind,
    /// Of which VMs.
    pub vms: Vec<VmName>,
}

/// What a rule asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RuleKind {
    /// No two of them on one host.
    Apart,
    /// Rather no two of them on one host.
    RatherApart,
    /// All on one host.
    Together,
    /// Rather all on one host.
    RatherTogether,
    /// In at least so many domains.
    Spread {
        /// How many.
        domains: u32,
    },
}

/// What the fleet's owner wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Use above this share of a host's capacity costs, in percent.
    pub threshold_percent: u32,
    /// So many hosts may fail and the VMs of protected tiers still find a place.
    pub survive_host_failures: u32,
    /// Tiers, the most important first; others come after them.
    pub tiers: Vec<Tier>,
    /// How many of `tiers` are protected; absent: all VMs are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected_tiers: Option<u32>,
    /// Cost of a second of migration, in thousandths of a host's capacity above the
    /// threshold: how much better a place must be for a move to be worth it.
    pub second_costs: u32,
    /// Migrations to and from one host at once.
    pub moves_per_host: u32,
}

impl Default for Policy {
    fn default() -> Self {
        let tier = |name: &str| name.parse().ok();
        Self {
            threshold_percent: 80,
            survive_host_failures: 0,
            tiers: ["critical", "secondary", "noncritical"].into_iter().filter_map(tier).collect(),
            protected_tiers: None,
            second_costs: 1,
            moves_per_host: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_reads_from_json_and_survives() {
        let text = r#"{
            "hosts": [{"name": "host-a", "capacity": {"memory": 100}, "link": "1gbit"}],
            "vms": [{"name": "web", "host": "host-a", "demand": {"memory": 10}}],
            "rules": [{"name": "r", "kind": "spread", "domains": 2, "vms": ["web"]}]
        }"#;
        let fleet: Fleet = serde_json::from_str(text).unwrap();
        assert_eq!(fleet.policy.threshold_percent, 80);
        assert_eq!(fleet.rules[0].kind, RuleKind::Spread { domains: 2 });
        let again = serde_json::to_string(&fleet).unwrap();
        assert_eq!(serde_json::from_str::<Fleet>(&again).unwrap(), fleet);
        let odd = serde_json::from_str::<Fleet>(r#"{"hosts": [], "hots": 1}"#).unwrap_err();
        assert!(odd.to_string().contains("hots"), "{odd}");
    }
}
