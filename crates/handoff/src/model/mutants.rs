//! Every guard, taken away one at a time: the search has to notice, and by the
//! rule that the guard is there for.

use super::search::{Bounds, search};
use super::world::Invariant::{self, NoneCanRun, Stale, TwoRun, Verdict, Wedged};
use crate::guard::{Guard, without};

/// Each guard, and the rule that breaks first without it.
const MUTANTS: &[(Guard, Invariant)] = &[
    (Guard::ClaimCompares, TwoRun),
    (Guard::ClaimRefusesAborted, Verdict),
    (Guard::ReassertCompares, Verdict),
    (Guard::OneSlot, Verdict),
    (Guard::HandingAhead, TwoRun),
    (Guard::StoppedItselfIsNotTold, TwoRun),
    (Guard::BrokenAsks, TwoRun),
    (Guard::OverdueAsks, TwoRun),
    (Guard::RestartedAsks, TwoRun),
    (Guard::NotReassertedStays, Verdict),
    (Guard::ReleaseWhenSettled, NoneCanRun),
    (Guard::KeptWhenReasserted, Wedged),
    (Guard::KeptWhenResumed, Wedged),
    (Guard::ClaimWhenTold, TwoRun),
    (Guard::ClaimWhenLoaded, NoneCanRun),
    (Guard::ClaimWhenSealed, Stale),
    (Guard::ClaimingAhead, Verdict),
    (Guard::NotClaimedStays, TwoRun),
    (Guard::NoRefusalAfterClaim, Wedged),
    (Guard::DeadGivesBack, NoneCanRun),
    (Guard::ActivatingAhead, NoneCanRun),
    (Guard::ExecutedStays, Stale),
];

#[test]
fn the_search_notices_every_guard_that_is_missing() {
    let bounds = Bounds { gated: false, deaths: false, full: false, late: 1 };
    let mut missed = Vec::new();
    for (guard, rule) in MUTANTS {
        let found = without(*guard, || search(bounds));
        let caught = found.violation.as_ref().map(|v| v.rule);
        println!("without {guard:?}: {caught:?} after {} states", found.states);
        if caught != Some(*rule) {
            missed.push(format!("{guard:?}: {caught:?}, not {rule:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(search(bounds).violation.is_none(), "and nothing where none is missing");
}

#[test]
fn every_guard_is_in_the_table_and_stands_at_one_place() {
    let source = [
        include_str!("../source.rs"),
        include_str!("../destination.rs"),
        include_str!("../record.rs"),
        include_str!("../verdict.rs"),
    ]
    .concat();
    for (guard, _) in MUTANTS {
        let places = source.matches(&format!("Guard::{guard:?}")).count();
        assert_eq!(places, 1, "{guard:?}");
    }
    let uses: std::collections::HashSet<_> = source
        .split("Guard::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    assert_eq!(uses.len(), MUTANTS.len(), "{uses:?}");
}
