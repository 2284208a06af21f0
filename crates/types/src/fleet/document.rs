//! A plan as a file: what is wanted, the state it was made from, and the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FleetPlan;
use crate::HostId;

/// What a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "goal", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlanGoal {
    /// Empty these hosts.
    Drain {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Bring back the VMs whose homes these hosts are.
    Restore {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Spread load evenly, as far as moves are worth it.
    Balance,
}

impl PlanGoal {
    /// The hosts that it names, each once, by name.
    pub fn hosts(&self) -> BTreeSet<&HostId> {
        match self {
            Self::Drain { hosts } | Self::Restore { hosts } => hosts.iter().collect(),
            Self::Balance => BTreeSet::new(),
        }
    }

    /// The goal in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Restore { .. } => "restore",
            Self::Balance => "balance",
        }
    }
}

impl fmt::Display for PlanGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        self.hosts().into_iter().try_for_each(|host| write!(f, " {host}"))
    }
}

/// A plan, with all that it was made from. The same state gives the same document,
/// byte for byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanDocument {
    /// Version of this format: 1.
    pub format: u32,
    /// What it is for.
    pub goal: PlanGoal,
    /// BLAKE3 of everything else here, in hexadecimal.
    pub digest: String,
    /// What to do, and what cannot be done.
    pub plan: FleetPlan,
    /// Each host, each VM and the policy, as it was planned with: `host/NAME`,
    /// `vm/NAME` and `policy`, each in the planner's JSON.
    pub state: BTreeMap<String, String>,
}

impl PlanDocument {
    /// The format that this version writes and reads.
    pub const FORMAT: u32 = 1;

    /// What is different in `now`, each in a sentence.
    pub fn drift(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        let keys: BTreeSet<&String> = self.state.keys().chain(now.keys()).collect();
        let told = |key: &String| {
            let name = key.replacen('/', " ", 1);
            match (self.state.get(key), now.get(key)) {
                (Some(then), Some(now)) if then != now => {
                    Some(format!("{name} was {then} and is {now}"))
                }
                (Some(_), None) => Some(format!("{name} is gone")),
                (None, Some(_)) => Some(format!("{name} is new")),
                _ => None,
            }
        };
        keys.into_iter().filter_map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_names_what_is_different() {
        let state = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let document = PlanDocument {
            format: PlanDocument::FORMAT,
            goal: PlanGoal::Balance,
            digest: String::new(),
            plan: FleetPlan::default(),
            state: state(&[("host/a", "1"), ("vm/w", "2"), ("vm/x", "3")]),
        };
        assert!(document.drift(&document.state).is_empty());
        let now = state(&[("host/a", "1"), ("vm/w", "4"), ("vm/y", "3")]);
        assert_eq!(document.drift(&now), ["vm w was 2 and is 4", "vm x is gone", "vm y is new"]);
    }

    #[test]
    fn a_goal_reads_as_it_is_typed() {
        let goal: PlanGoal =
            serde_json::from_str(r#"{"goal": "drain", "hosts": ["b", "a", "b"]}"#).unwrap();
        assert_eq!(goal.to_string(), "drain a b");
        assert!(serde_json::from_str::<PlanGoal>(r#"{"goal": "burn"}"#).is_err());
    }
}
