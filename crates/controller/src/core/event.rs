//! A party of an attempt reports a durable fact.

use api::body::{AttemptEvent, AttemptPatch};
use handoff::record::Change;
use types::{AttemptPhase, Code, HostId, Ownership, PageCounts, Problem, Side};

use super::{Attempt, Note};

/// Longest word of an event.
const MAX_EVENT: usize = 64;
/// Longest text of a party that is kept, in characters.
const MAX_TEXT: usize = 2000;

/// Takes an event into the record. No notes: it had been taken already.
pub fn event(
    own: &Ownership,
    attempt: &mut Attempt,
    host: &HostId,
    event: &AttemptEvent,
    now_ms: i64,
) -> Result<Vec<Note>, Problem> {
    let party = match event.side {
        Side::Source => &attempt.record.from,
        Side::Destination => &attempt.record.to,
    };
    if party != host {
        return Err(Problem::new(
            Code::NotAllowed,
            format!("{host} is not that side of attempt {}", attempt.record.id),
        ));
    }
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if event.event.is_empty() || event.event.len() > MAX_EVENT || !event.event.bytes().all(word) {
        return Err(Problem::new(Code::InvalidRequest, "an event is one word of kebab-case"));
    }
    let seq = attempt.seq(event.side);
    if event.seq <= *seq {
        return Ok(Vec::new());
    }
    *seq = event.seq;
    let mut note = Note::by(host, &event.event);
    note.detail = event.detail.as_deref().map(short);
    let mut notes = vec![note];
    if attempt.record.phase != AttemptPhase::Done {
        patch(own, attempt, event.side, &event.patch);
        notes.extend(attempt.finish(now_ms));
    }
    Ok(notes)
}

fn patch(own: &Ownership, attempt: &mut Attempt, side: Side, patch: &AttemptPatch) {
    if let Some(phase) = patch.phase {
        // Only both sides together are done.
        attempt.advance(phase.min(AttemptPhase::Cleaning));
    }
    if side == Side::Source && patch.source_ended == Some(true) {
        attempt.source_ended = true;
    }
    let record = &mut attempt.record;
    if let (Side::Destination, Some(address)) = (side, &patch.destination) {
        record.destination = Some(short(address));
    }
    if let Some(reason) = &patch.abort {
        // Too late or not the first reason: the history has it all the same.
        let first = handoff::record::abort(own, record, &short(reason)) == Ok(Change::Made);
        let off = side == Side::Source && patch.powered_off == Some(true);
        record.cancelled |= first && off;
    }
    let report = &mut record.report;
    report.mode = patch.mode.or(report.mode);
    report.blackout_seconds = seconds(patch.blackout_seconds).or(report.blackout_seconds);
    report.round_trip_seconds = seconds(patch.round_trip_seconds).or(report.round_trip_seconds);
    report.state_equal = patch.state_equal.or(report.state_equal);
    report.rounds = report.rounds.max(patch.rounds.unwrap_or(0));
    report.sent_bytes = report.sent_bytes.max(patch.sent_bytes.unwrap_or(0));
    if let Some(pages) = patch.pages {
        report.pages = most(report.pages, pages);
    }
}

fn seconds(given: Option<f64>) -> Option<f64> {
    given.filter(|s| s.is_finite() && *s >= 0.0)
}

fn most(a: PageCounts, b: PageCounts) -> PageCounts {
    PageCounts {
        zero: a.zero.max(b.zero),
        present: a.present.max(b.present),
        delta: a.delta.max(b.delta),
        compressed: a.compressed.max(b.compressed),
        raw: a.raw.max(b.raw),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
