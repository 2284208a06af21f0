//! The conditions that the protocol's safety hangs on, by name.
//!
//! Each stands at exactly one place of the code. A guard always stands; only the
//! model's own tests, compiled into no program, take one away at a time and
//! look whether the search notices.

/// One guard. What it prevents is told in the table of `model/mutants.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Guard {
    /// Record: a claim compares slot, owner and epoch with those of the beginning.
    ClaimCompares,
    /// Record: an attempt that is being given up is not claimed.
    ClaimRefusesAborted,
    /// Record: the source reasserts only what it still owns, as it read it.
    ReassertCompares,
    /// Record: an attempt begins only where no other is open.
    OneSlot,
    /// Source: the hand-over is durable before the VM is stopped.
    HandingAhead,
    /// Source: a VM that QEMU stopped by itself is not told as stopped.
    StoppedItselfIsNotTold,
    /// Source: a broken connection is no verdict.
    BrokenAsks,
    /// Source: neither is a time-out.
    OverdueAsks,
    /// Source: neither is a restart.
    RestartedAsks,
    /// Source: the VM goes on only after the swap of the record succeeded.
    NotReassertedStays,
    /// Source: its copy ends only when the other side has settled.
    ReleaseWhenSettled,
    /// Source: an attempt is over only when the record has been put in order.
    KeptWhenReasserted,
    /// Source: and only when the VM goes on.
    KeptWhenResumed,
    /// Destination: a claim needs the word that the source is stopped for good.
    ClaimWhenTold,
    /// Destination: a claim needs a QEMU that has loaded everything.
    ClaimWhenLoaded,
    /// Destination: a claim needs sealed memory.
    ClaimWhenSealed,
    /// Destination: that a claim may have been sent is durable before it is.
    ClaimingAhead,
    /// Destination: a refused claim is no claim.
    NotClaimedStays,
    /// Destination: once a claim may have been sent, only the record refuses.
    NoRefusalAfterClaim,
    /// Destination: a VM whose QEMU died before it was claimed goes back.
    DeadGivesBack,
    /// Destination: that the VM may execute is durable before it does.
    ActivatingAhead,
    /// Destination: a VM that may have executed does not go back.
    ExecutedStays,
}

impl Guard {
    /// The condition, guarded.
    pub(crate) fn holds(self, condition: bool) -> bool {
        condition || !self.stands()
    }

    /// True, in everything but the model's tests.
    #[cfg(not(test))]
    pub(crate) const fn stands(self) -> bool {
        true
    }

    /// Whether it has not been taken away on this thread.
    #[cfg(test)]
    pub(crate) fn stands(self) -> bool {
        TAKEN.get() != Some(self)
    }
}

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` without one guard.
#[cfg(test)]
pub(crate) fn without<T>(guard: Guard, work: impl FnOnce() -> T) -> T {
    TAKEN.set(Some(guard));
    let result = work();
    TAKEN.set(None);
    result
}
