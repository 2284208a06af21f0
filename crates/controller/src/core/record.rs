//! The records that decisions are made upon, as the store keeps them.

use api::body::Press;
use serde::{Deserialize, Serialize};
use types::{AttemptPhase, AttemptRecord, Outcome, RunState, Side, VmSpec};

/// A VM, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its spec, with UUID and MACs.
    pub spec: VmSpec,
    /// What was asked for.
    pub desired: RunState,
    /// Rises with every request to start.
    pub start_generation: u64,
    /// Rises with every request to go on after an error.
    #[serde(default)]
    pub resumes: u64,
    /// The button that was pressed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub press: Option<Press>,
    /// Why it rests although it should run, as the history was last told.
    #[serde(default)]
    pub halted: Option<String>,
}

impl Vm {
    /// One that was never started.
    pub fn new(spec: VmSpec, desired: RunState) -> Self {
        Self { spec, desired, start_generation: 0, resumes: 0, press: None, halted: None }
    }
}

/// An attempt, as the store keeps it: the record and what only the controller needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// What parties see.
    pub record: AttemptRecord,
    /// When it was asked for, in milliseconds since 1970.
    pub requested_ms: i64,
    /// Number of the source's last event; 0: none yet.
    pub source_seq: u64,
    /// Number of the destination's last event; 0: none yet.
    pub destination_seq: u64,
    /// The source's part is over.
    pub source_ended: bool,
}

impl Attempt {
    /// The last number of a side's events.
    pub fn seq(&mut self, side: Side) -> &mut u64 {
        match side {
            Side::Source => &mut self.source_seq,
            Side::Destination => &mut self.destination_seq,
        }
    }

    /// Goes on to a phase, never back.
    pub fn advance(&mut self, phase: AttemptPhase) {
        self.record.phase = self.record.phase.max(phase);
    }

    /// Ends the attempt once both its outcome is known and its source is through.
    pub fn finish(&mut self, now_ms: i64) -> Option<Note> {
        let record = &mut self.record;
        let outcome = record.report.outcome?;
        if !self.source_ended || record.phase == AttemptPhase::Done {
            return None;
        }
        record.phase = AttemptPhase::Done;
        let spent = now_ms.saturating_sub(self.requested_ms).max(0);
        record.report.total_seconds = Some(spent as f64 / 1000.0);
        Some(Note::by("controller", "done").detail(match (&record.report.reason, outcome) {
            (_, Outcome::Completed) | (None, _) => outcome.to_string(),
            (Some(reason), _) => format!("{outcome}: {reason}"),
        }))
    }
}

/// What the history has to say about a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Who did it.
    pub actor: String,
    /// What happened.
    pub event: String,
    /// More about it.
    pub detail: Option<String>,
}

impl Note {
    /// `actor` did or said `event`, one word of kebab-case.
    pub fn by(actor: impl ToString, event: &str) -> Self {
        Self { actor: actor.to_string(), event: event.to_owned(), detail: None }
    }

    /// Adds more about it.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}
