//! What the controller's answers mean.

use api::body::{AttemptIntent, OwnershipRequest};
use handoff::{Verdict, destination, source, verdict};
use types::{Code, Problem};

/// What an answer to a compare-and-swap comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// It is in the record.
    Done,
    /// It compared unequal: what the record says is read.
    Read,
    /// Nobody knows: it is asked again.
    Again,
}

/// What the answer to a compare-and-swap comes to; `problem` where it has one.
pub fn swapped(problem: Option<&Problem>) -> Swap {
    match problem {
        None => Swap::Done,
        Some(problem) if problem.code == Code::Conflict => Swap::Read,
        Some(_) => Swap::Again,
    }
}

/// What a source that wants to reassert does, having read the record: it swaps
/// exactly what it read, or sees that there is nothing to swap.
///
/// # Errors
/// What it sees instead.
pub fn reassert(intent: &AttemptIntent) -> Result<OwnershipRequest, source::Seen> {
    match verdict(&intent.ownership, &intent.record) {
        Verdict::Undecided { .. } | Verdict::GivenBack => Ok(OwnershipRequest {
            attempt: intent.record.id,
            epoch: intent.ownership.epoch,
            incarnation: intent.ownership.incarnation,
        }),
        other => Err(source::Seen::NotReasserted(other)),
    }
}

/// What a destination sees whose settling compared unequal, having read the record.
/// Nothing yet, where the record does not know the attempt: it is in doubt, as after a
/// restore of the store, and the destination asks until that is resolved.
pub fn unsettled(intent: &AttemptIntent) -> Option<destination::Seen> {
    let AttemptIntent { record, ownership, .. } = intent;
    match verdict(ownership, record) {
        Verdict::Foreign => None,
        // Somebody else recorded it: the store was restored, or a person resolved it.
        Verdict::Claimed { settled: true } if ownership.owner == record.to => {
            Some(destination::Seen::Settled)
        }
        _ => Some(destination::Seen::NotSettled),
    }
}
