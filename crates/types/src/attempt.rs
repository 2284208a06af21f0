//! A migration attempt and what is known about it while it is under way.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Epoch, HostId, Incarnation, MigrationReport, VmId};

/// One attempt to move one VM; time-ordered (UUID version 7).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct AttemptId(pub Uuid);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AttemptId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(s).map(Self)
    }
}

/// The side of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The host the VM leaves.
    Source,
    /// The host the VM goes to.
    Destination,
}

/// Whether a VM's processors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Executing.
    Running,
    /// Loaded, not executing.
    Paused,
    /// No QEMU.
    Stopped,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// How far an attempt is. The order is the order in which phases happen;
/// progress never goes back to an earlier one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptPhase {
    /// The destination prepares memory, taps, QEMU and carrier.
    Preparing,
    /// Memory is copied in rounds while the VM runs.
    Copying,
    /// The source is stopped; the rest travels; the destination loads.
    Switching,
    /// The destination owns the VM and starts it.
    Activating,
    /// The source's remains are released.
    Cleaning,
    /// Ended; the outcome is in the report.
    Done,
}

impl fmt::Display for AttemptPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Preparing => "preparing",
            Self::Copying => "copying",
            Self::Switching => "switching",
            Self::Activating => "activating",
            Self::Cleaning => "cleaning",
            Self::Done => "done",
        })
    }
}

/// What the controller keeps of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// Its id.
    pub id: AttemptId,
    /// The VM.
    pub vm: VmId,
    /// The host it leaves.
    pub from: HostId,
    /// The host it goes to.
    pub to: HostId,
    /// The ownership epoch the attempt began at; a claim compares it.
    pub epoch: Epoch,
    /// The incarnation the attempt began at.
    pub incarnation: Incarnation,
    /// Secret that the two carriers prove to each other (hexadecimal); later a ticket.
    pub secret: String,
    /// Compare RAM digest and registers of both sides before the claim. Costs blackout.
    pub verify: bool,
    /// Longest blackout the policy allows, in milliseconds.
    pub blackout_budget_ms: u64,
    /// The VM rested when the migration was asked for, and rests wherever it ends up.
    #[serde(default)]
    pub resting: bool,
    /// Where the destination's carrier listens (`address:port`), once it does.
    pub destination: Option<String>,
    /// How far it is.
    pub phase: AttemptPhase,
    /// Somebody asked for it to be cancelled, or a party reported why it must end.
    pub abort: Option<String>,
    /// The abort was a user's or the guest's wish, not a failure.
    pub cancelled: bool,
    /// The result; final when `phase` is `Done`.
    pub report: MigrationReport,
}

/// A volatile observation of how a copy goes. Units are in the names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Bytes of guest memory still to be sent in this round.
    pub remaining_bytes: u64,
    /// Bytes of guest memory handled so far, repeats included; only rises.
    pub done_bytes: u64,
    /// Size of the guest's memory.
    pub total_bytes: u64,
    /// Guest memory handled a second, smoothed.
    pub rate_bytes_per_second: u64,
    /// Guest memory dirtied a second, as QEMU measures it.
    pub dirty_bytes_per_second: u64,
    /// Rounds begun.
    pub rounds: u64,
    /// Bytes on the wire so far.
    pub sent_bytes: u64,
    /// Expected time to the switchover, where it can be told.
    pub expected_seconds: Option<f64>,
}
