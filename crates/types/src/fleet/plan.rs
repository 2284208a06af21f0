//! What the planner answers about a fleet: the same facts as data and as text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostId, VmName};

/// What to do, and what cannot be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetPlan {
    /// The moves, in the order of their starts.
    pub moves: Vec<PlannedMove>,
    /// VMs that should move, or run, and cannot.
    pub blocked: Vec<Blocked>,
    /// Rules that asked for VMs to be together and are not fulfilled.
    pub unfulfilled: Vec<String>,
    /// When the last move is forecast to end.
    pub makespan_seconds: f64,
    /// Cost of the fleet as it is, in thousandths of a host above the threshold.
    pub cost_before: f64,
    /// Cost of the fleet after the plan, the moves' own cost left out.
    pub cost_after: f64,
    /// Whether the fleet survives the failures that the policy names, afterwards;
    /// absent where the policy names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
}

/// A move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedMove {
    /// The VM.
    pub vm: VmName,
    /// Where it is; absent: it is to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<HostId>,
    /// Where it goes.
    pub to: HostId,
    /// Moves of one wave wait only for moves of earlier ones.
    pub wave: usize,
    /// Moves of this plan, by their place in it, that must have ended before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// When it starts, from the plan's beginning.
    pub start_seconds: f64,
    /// How long it is forecast to take.
    pub seconds: f64,
    /// How many hosts could take it as the fleet is planned.
    pub choices: usize,
    /// The next best host, and how much more it would cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_best: Option<(HostId, f64)>,
    /// What the place costs less than staying, without the move's own cost; absent
    /// where staying is impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
}

/// A VM that finds no place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocked {
    /// The VM.
    pub vm: VmName,
    /// Why not there, host by host.
    pub refusals: Vec<Refusal>,
    /// The smallest set of changes after which one host can take it; empty where no
    /// change would do.
    pub unblock: Vec<Change>,
    /// The host that could take it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
}

/// Why a host cannot take a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The host.
    pub host: HostId,
    /// Everything that stands against it; never empty.
    pub obstacles: Vec<Obstacle>,
}

/// What stands against a VM running on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Obstacle {
    /// The host gets no more VMs.
    Cordoned,
    /// The host is being emptied.
    Draining,
    /// The VM is pinned to other hosts.
    Pinned,
    /// The host is at another site.
    OtherSite {
        /// The host's site.
        site: String,
    },
    /// The host lacks CPU features of the VM's guest.
    CpuFeatures {
        /// Those that it lacks.
        missing: Vec<String>,
    },
    /// The host has too little left.
    Room {
        /// Of this resource.
        resource: String,
        /// How much more it would have to have.
        missing: u64,
    },
    /// The VM cannot go there, whatever the room.
    Barred {
        /// The problem's code.
        code: String,
        /// Why, in a sentence.
        why: String,
        /// What would make it work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
    /// A rule keeps the VM apart from one that is there.
    Apart {
        /// The rule.
        rule: String,
    },
    /// What is left there is kept for the VMs of hosts that fail.
    Reserved {
        /// So many failures are to be survived.
        failures: u32,
    },
    /// The VM's leaving would leave its group in too few domains.
    Spread {
        /// The rule.
        rule: String,
    },
}

/// A change of the fleet that removes an obstacle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Let the host have VMs again.
    Uncordon {
        /// The host.
        host: HostId,
    },
    /// Give the host more, or take so much off it.
    Free {
        /// The host.
        host: HostId,
        /// The resource.
        resource: String,
        /// How much.
        amount: u64,
    },
    /// Make the host one that the VM can run on.
    Remedy {
        /// The VM.
        vm: VmName,
        /// The host.
        host: HostId,
        /// What.
        remedy: String,
    },
    /// Pin the VM to this host too.
    Pin {
        /// The VM.
        vm: VmName,
        /// The host.
        host: HostId,
    },
    /// Take the VM out of a rule.
    Except {
        /// The VM.
        vm: VmName,
        /// The rule.
        rule: String,
    },
    /// Ask for fewer host failures to be survived.
    Survive {
        /// How many.
        failures: u32,
    },
    /// Start the VM anew without these CPU features.
    DropFeatures {
        /// The VM.
        vm: VmName,
        /// The features.
        features: Vec<String>,
    },
}

/// Whether the protected VMs find a place after hosts have failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admission {
    /// So many failures at once.
    pub failures: u32,
    /// Hosts whose failure leaves VMs without a place; empty: every failure is
    /// survived.
    pub fails_with: Vec<HostId>,
    /// Those VMs.
    pub lost: Vec<VmName>,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Draining => f.write_str("is being drained"),
            Self::Pinned => f.write_str("is not among the hosts that the VM is pinned to"),
            Self::OtherSite { site } => write!(f, "is at another site, {site}"),
            Self::CpuFeatures { missing } => {
                write!(f, "lacks the CPU features {}", missing.join(", "))
            }
            Self::Room { resource, missing } => write!(f, "lacks {missing} of {resource}"),
            Self::Barred { why, .. } => f.write_str(why),
            Self::Apart { rule } => write!(f, "has a VM that rule {rule} keeps apart"),
            Self::Reserved { failures } => {
                write!(f, "has room that is kept for the failure of {failures} host(s)")
            }
            Self::Spread { rule } => write!(f, "is in a domain that rule {rule} has enough in"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncordon { host } => write!(f, "uncordon {host}"),
            Self::Free { host, resource, amount } => {
                write!(f, "free {amount} of {resource} on {host}")
            }
            Self::Remedy { remedy, .. } => f.write_str(remedy),
            Self::Pin { vm, host } => write!(f, "pin {vm} to {host} too"),
            Self::Except { vm, rule } => write!(f, "take {vm} out of rule {rule}"),
            Self::Survive { failures } => {
                write!(f, "let survive_host_failures be {failures}, or add a host")
            }
            Self::DropFeatures { vm, features } => {
                write!(f, "start {vm} anew without {}", features.join(", "))
            }
        }
    }
}
