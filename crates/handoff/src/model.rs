//! Everything that can happen to a VM between two hosts, searched exhaustively.
//!
//! The subject is the code of this crate itself: both machines and the record's
//! transitions. Around them stand two hosts with a journal and a QEMU each, a
//! store whose requests are lost, delayed and repeated, a connection that breaks,
//! agents that restart between any two actions, journals that cannot be written,
//! users who cancel, hosts that die and are replaced, and one attempt after another:
//! there, back, there again and so on for ever.

mod around;
mod hosts;
mod mutants;
mod search;
mod store;
mod world;

pub(crate) use search::{Bounds, search};

/// Everything at once: hosts die, journals are full, requests are repeated.
fn explore(gated: bool) -> usize {
    let found = search(Bounds { gated, deaths: true, full: true, late: 3 });
    let gate = if gated { "with" } else { "without" };
    println!("handoff {gate} the acknowledgement gate: {} states", found.states);
    if let Some(violation) = found.violation {
        panic!("{violation}");
    }
    found.states
}

#[test]
fn never_two_never_none_never_stale_with_the_gate() {
    assert!(explore(true) > 100_000, "the search has lost its way");
}

#[test]
fn never_two_never_none_never_stale_without_the_gate() {
    assert!(explore(false) > 100_000, "the search has lost its way");
}
