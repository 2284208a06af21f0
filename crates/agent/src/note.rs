//! What the two agents of an attempt tell each other through their carriers.

use serde::{Deserialize, Serialize};

/// One note; at most 4 KiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "note")]
pub(crate) enum Note {
    /// Source: the VM is stopped and cannot resume by itself.
    Stopped {
        /// It was paused before and stays so.
        paused: bool,
    },
    /// Source: digests of what the destination must have loaded.
    State {
        /// BLAKE3 of guest memory.
        memory: String,
        /// BLAKE3 of the registers of all processors.
        registers: String,
    },
    /// Destination: this attempt will never be claimed.
    Refused {
        /// Why.
        why: String,
    },
    /// Destination: the VM is executing (or rests, if it was paused).
    Running,
}

impl Note {
    pub(crate) fn to_text(&self) -> String {
        let mut note = self.clone();
        if let Self::Refused { why } = &mut note {
            *why = why.chars().take(500).collect();
        }
        // A note holds only texts, so it always has a JSON form.
        serde_json::to_string(&note).unwrap_or_default()
    }

    /// `None` for a note of a newer agent, which is no reason to fail.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
