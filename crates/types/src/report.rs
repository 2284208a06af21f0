//! What a migration did, as it is shown, stored and compared.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AttemptId, HostId, VmName};

/// How guest memory travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Pages are written straight into the destination's memory file.
    Direct,
    /// Pages are handed to the destination's QEMU in its stream.
    Stream,
    /// The stream is not understood; its bytes are carried as they are.
    Opaque,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Stream => "stream",
            Self::Opaque => "opaque",
        })
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The VM is on the destination.
    Completed,
    /// The VM stayed on the source because something failed.
    Failed,
    /// The VM stayed on the source because somebody asked, or because its guest
    /// powered off.
    Cancelled,
    /// Nothing was touched.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        })
    }
}

/// How many pages travelled in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PageCounts {
    /// All zero; only named.
    pub zero: u64,
    /// Already at the destination; only named.
    pub present: u64,
    /// As a difference to an earlier version.
    pub delta: u64,
    /// Compressed.
    pub compressed: u64,
    /// As they are.
    pub raw: u64,
}

/// The result of an attempt. Seconds are seconds; bytes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// The VM's name.
    pub vm: VmName,
    /// The host it left.
    pub from: HostId,
    /// The host it went to.
    pub to: HostId,
    /// How its memory travelled; unknown before the first section.
    pub mode: Option<Mode>,
    /// How it ended; unknown while it goes on.
    pub outcome: Option<Outcome>,
    /// Why it did not complete.
    pub reason: Option<String>,
    /// From the request to the last clean-up.
    pub total_seconds: Option<f64>,
    /// On the source's monotonic clock, from QEMU's STOP event to the receipt
    /// of RUNNING: an upper bound.
    pub blackout_seconds: Option<f64>,
    /// Round trip between the carriers, contained in `blackout_seconds`.
    pub round_trip_seconds: Option<f64>,
    /// Passes over dirty memory.
    pub rounds: u64,
    /// Size of the guest's memory.
    pub memory_bytes: u64,
    /// Bytes the source's carrier sent.
    pub sent_bytes: u64,
    /// Pages by kind.
    pub pages: PageCounts,
    /// With `verify`: RAM digest and registers of both sides were equal at the switchover.
    pub state_equal: Option<bool>,
}

impl MigrationReport {
    /// The report of an attempt that has only begun.
    pub fn begun(
        attempt: AttemptId,
        vm: VmName,
        from: HostId,
        to: HostId,
        memory_bytes: u64,
    ) -> Self {
        Self {
            attempt,
            vm,
            from,
            to,
            mode: None,
            outcome: None,
            reason: None,
            total_seconds: None,
            blackout_seconds: None,
            round_trip_seconds: None,
            rounds: 0,
            memory_bytes,
            sent_bytes: 0,
            pages: PageCounts::default(),
            state_equal: None,
        }
    }
}
