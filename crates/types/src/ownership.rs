//! Who may run a VM.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AttemptId, HostId};

/// Generation of a VM's ownership; rises with every change of owner and with
/// every abandoned attempt, so that a late claim no longer compares equal.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The next generation.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Generation of the store itself; rises when it is restored from a backup.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// The record that decides who runs a VM. It changes only by compare-and-swap
/// on all of its fields, and it never expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ownership {
    /// The host that may run the VM.
    pub owner: HostId,
    /// Generation of the ownership.
    pub epoch: Epoch,
    /// Generation of the store.
    pub incarnation: Incarnation,
    /// The one attempt slot: the migration under way, if any.
    pub attempt: Option<AttemptId>,
    /// True once `owner` has recorded that the VM runs (or rests paused, where
    /// it was paused before) there at this epoch. Only then may another host
    /// release what it still holds of the VM.
    pub settled: bool,
}
