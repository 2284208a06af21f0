//! A plan that is being carried out, or was.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Blocked, PlanGoal, PlannedMove};
use crate::{AttemptId, VmName};

/// A plan that was applied; time-ordered (UUID version 7).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct PlanId(pub Uuid);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PlanId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(s).map(Self)
    }
}

/// A plan that is being carried out, or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanRun {
    /// Its id.
    pub id: PlanId,
    /// What it is for.
    pub goal: PlanGoal,
    /// Who applied it.
    pub by: String,
    /// When, RFC 3339.
    pub began: String,
    /// When the last move had ended, RFC 3339; absent: it goes on.
    pub ended: Option<String>,
    /// Seconds from beginning to end.
    pub seconds: Option<f64>,
    /// How long it was forecast to take.
    pub forecast_seconds: f64,
    /// Somebody asked for no more moves to begin.
    pub stopping: bool,
    /// How often what was left has been planned anew.
    pub replans: u32,
    /// Its moves, in the plan's order; those of later plans follow.
    pub moves: Vec<RunMove>,
    /// VMs that should move and cannot, by the latest plan.
    pub blocked: Vec<Blocked>,
    /// VMs that run where the goal does not want them, once it has ended.
    pub left: Vec<VmName>,
}

impl PlanRun {
    /// Everything that was wanted has been done.
    pub fn complete(&self) -> bool {
        self.ended.is_some() && self.left.is_empty() && !self.stopping
    }
}

/// A move of a plan, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunMove {
    /// As it was planned.
    #[serde(flatten)]
    pub planned: PlannedMove,
    /// How far it is.
    #[serde(flatten)]
    pub state: MoveState,
}

/// How far a move is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum MoveState {
    /// Others must end first.
    Waiting,
    /// It has an attempt.
    Moving {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The VM is there.
    Done {
        /// The attempt that brought it there; absent: it was there already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<AttemptId>,
    },
    /// The VM stayed where it was.
    Failed {
        /// Why.
        why: String,
    },
    /// It was not begun, and is not needed any more or not wanted.
    Skipped {
        /// Why.
        why: String,
    },
}

impl MoveState {
    /// Nothing more will happen.
    pub fn ended(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Moving { .. })
    }

    /// The state in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Moving { .. } => "moving",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
        }
    }
}
