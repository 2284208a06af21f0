//! Who may run the VM: the state machines of source and destination, and the
//! record between them.
//!
//! The machines are pure: `on(observation) -> actions`. The caller performs the actions
//! in the order given and stops at the first that fails, feeding the failure
//! back as an observation; a journal that cannot be written is `NotJournalled`. [`Action::Journal`](source::Action::Journal) is
//! durable before the next action begins; after a restart the machine is made
//! from the journalled stage and sees `Restarted`.
//!
//! Invariants:
//!
//! 1. The destination executes the VM only after the record names it the owner.
//! 2. The source tells that the VM is stopped only when the VM cannot resume by
//!    itself: it was stopped by us, or QEMU has completed the migration.
//! 3. Once that may have been told (`Stage::Handing`), the source resumes the VM
//!    only after its own compare-and-swap of the record, or after the
//!    destination's durable refusal.
//! 4. The destination refuses on its own only while it has not sent a claim.
//! 5. The source's copy is ended only when the record says that the VM is
//!    settled on the destination.

pub mod destination;
mod guard;
#[cfg(test)]
mod model;
pub mod record;
pub mod source;
mod verdict;

pub use verdict::{Verdict, verdict};
