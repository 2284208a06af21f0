//! What an agent and its carrier say to each other: a configuration as one line
//! of JSON on the carrier's standard input, then commands and events as lines
//! of JSON on a private unix socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{AttemptId, HostId, Mode, PageCounts};

/// Everything a carrier needs. Paths are the agent's own choice, never a peer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarrierConfig {
    /// The attempt it serves.
    pub attempt: AttemptId,
    /// Secret shared by the two carriers of the attempt, 64 hexadecimal digits.
    pub secret: String,
    /// This host's name.
    pub host: HostId,
    /// The only host whose certificate is accepted.
    pub peer: HostId,
    /// PEM files: trust anchor, own chain, own key.
    pub ca: PathBuf,
    /// Own certificate chain.
    pub cert: PathBuf,
    /// Own private key.
    pub key: PathBuf,
    /// Unix socket the carrier listens on for its agent.
    pub control: PathBuf,
    /// Unix socket towards QEMU. The source's carrier listens on it (QEMU
    /// connects with `migrate`); the destination's carrier connects to it
    /// (QEMU listens since `migrate-incoming`).
    pub qemu: PathBuf,
    /// The side, with what only that side needs.
    pub side: CarrierSide,
}

/// The part of the configuration that differs by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CarrierSide {
    /// Reads from QEMU, sends.
    Source {
        /// `address:port` of the destination's carrier.
        connect: String,
        /// Carry bytes without looking into the stream.
        opaque: bool,
        /// Memory files to be compared with what was sent, once the VM is stopped;
        /// for accelerators whose dirty log cannot be relied upon.
        recheck: Vec<BlockPlacement>,
        /// How long the session is kept over a broken link.
        #[serde(default)]
        outage: Outage,
        /// For tests: how pages travel where there is a choice.
        #[serde(default)]
        force: Option<Force>,
    },
    /// Receives, places pages, writes to QEMU.
    Destination {
        /// Address to listen on.
        listen: String,
        /// Ports to try, first and last inclusive; 0 and 0 for any.
        ports: (u16, u16),
        /// The placement table; empty: all pages go through QEMU's stream.
        blocks: Vec<BlockPlacement>,
        /// The files hold an image of this very VM, from when it was here last.
        #[serde(default)]
        image: bool,
    },
}

/// A way of sending pages that is taken wherever it can be, whether or not it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Force {
    /// Whole, as they are.
    Raw,
    /// Whole, compressed a little.
    Fast,
    /// Whole, compressed more.
    Zstd,
    /// Whole, compressed as far as is ever tried.
    Strong,
    /// As copies of other pages.
    Copy,
    /// What has changed since it was sent before.
    Delta,
    /// What has changed since it was sent before, after asking what is there.
    Part,
    /// Each in turn.
    Mixed,
}

/// How long a broken link to the other host is waited for before an attempt is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outage {
    /// While the VM runs on the source, in seconds.
    pub copy_seconds: u32,
    /// Once the VM is stopped, in seconds: this much may be added to the blackout.
    pub tail_seconds: u32,
}

impl Default for Outage {
    fn default() -> Self {
        Self { copy_seconds: 60, tail_seconds: 10 }
    }
}

/// Where one RAM block of the guest is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockPlacement {
    /// The block's name in the stream, such as `pc.ram`.
    pub block: String,
    /// The memory file.
    pub file: PathBuf,
    /// Offset of the block in the file, in bytes.
    pub offset: u64,
    /// Length of the block in bytes.
    pub length: u64,
}

/// Agent to carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum CarrierCommand {
    /// Source: stop reading from QEMU until `release` (answered by `held`).
    Hold,
    /// Source: read on.
    Release,
    /// Source: the VM is stopped; accept the rest as fast as QEMU writes.
    Tail,
    /// Hand this text to the other side's agent, in order with what was sent before.
    Note {
        /// At most 4 KiB; meaning is the agents' affair.
        text: String,
    },
    /// End at once; everything not yet delivered is dropped.
    End,
}

/// Carrier to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum CarrierEvent {
    /// Destination: ready for the other side.
    Listening {
        /// Port in use.
        port: u16,
    },
    /// The two carriers have proved themselves to each other.
    Connected {
        /// Round trip between them in microseconds.
        round_trip_us: u64,
    },
    /// How memory travels, known after the stream's start.
    Mode {
        /// The mode.
        mode: Mode,
        /// Why it is not `direct`, where it is not.
        why: Option<String>,
    },
    /// Source: reading has stopped.
    Held,
    /// Counters; sent at most every 100 ms and once at the end.
    Counters(Counters),
    /// The link to the other carrier broke; a new one is tried.
    LinkLost {
        /// Why.
        why: String,
    },
    /// A new link carries on where the broken one ended.
    LinkResumed {
        /// How long there was none, in milliseconds.
        outage_ms: u64,
        /// Bytes sent more than once so far, because they were not acknowledged.
        resent_bytes: u64,
    },
    /// Destination: every page is placed, the memory files are closed, later
    /// pages are refused; the device state now goes to QEMU.
    Sealed,
    /// Text from the other side's agent.
    Note {
        /// As it was given.
        text: String,
    },
    /// The carrier cannot go on and ends.
    Failed {
        /// What failed and why.
        reason: String,
    },
    /// Everything was delivered in both directions; the carrier ends.
    Finished,
}

impl CarrierEvent {
    /// The kind of event, as in its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Listening { .. } => "listening",
            Self::Connected { .. } => "connected",
            Self::Mode { .. } => "mode",
            Self::Held => "held",
            Self::Counters(_) => "counters",
            Self::LinkLost { .. } => "link-lost",
            Self::LinkResumed { .. } => "link-resumed",
            Self::Sealed => "sealed",
            Self::Note { .. } => "note",
            Self::Failed { .. } => "failed",
            Self::Finished => "finished",
        }
    }
}

/// Rising counters of a carrier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes of guest memory handled, repeats included.
    pub done_bytes: u64,
    /// Bytes written to the network.
    pub sent_bytes: u64,
    /// Bytes of guest memory sent and not yet acknowledged as placed.
    pub unacknowledged_bytes: u64,
    /// Guest memory acknowledged a second, smoothed.
    pub rate_bytes_per_second: u64,
    /// Round trip in microseconds, last measured.
    pub round_trip_us: u64,
    /// Pages by kind.
    pub pages: PageCounts,
}
