//! Reading the ownership record from the point of view of one attempt.

use serde::{Deserialize, Serialize};
use types::{AttemptRecord, Ownership};

/// What the record says about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The source owns the VM as when the attempt began.
    Undecided {
        /// Somebody asked for the attempt to end; a claim will be refused.
        aborted: bool,
    },
    /// The destination owns the VM on behalf of this attempt.
    Claimed {
        /// And has recorded that the VM runs (or rests) there.
        settled: bool,
    },
    /// The source owns the VM again, the attempt still open: the destination gave it back.
    GivenBack,
    /// The attempt is over and the VM stayed with the source.
    Kept,
    /// The attempt is over, and a person has given the VM to another host since: what
    /// is left of it here is stale.
    Overruled,
    /// The record matches nothing this attempt could have led to.
    Foreign,
}

/// Reads `ownership` and `record`, which must come from one read of the store.
pub fn verdict(ownership: &Ownership, record: &AttemptRecord) -> Verdict {
    use types::Outcome;
    match record.report.outcome {
        Some(Outcome::Completed) if ownership.owner == record.to => {
            return Verdict::Claimed { settled: true };
        }
        Some(Outcome::Completed) => return Verdict::Overruled,
        Some(_) if ownership.owner == record.from => return Verdict::Kept,
        Some(_) => return Verdict::Overruled,
        None => {}
    }
    if ownership.attempt != Some(record.id) || ownership.incarnation != record.incarnation {
        return Verdict::Foreign;
    }
    if ownership.owner == record.to {
        return Verdict::Claimed { settled: ownership.settled };
    }
    if ownership.owner != record.from {
        return Verdict::Foreign;
    }
    if ownership.epoch == record.epoch {
        Verdict::Undecided { aborted: record.abort.is_some() }
    } else {
        Verdict::GivenBack
    }
}
