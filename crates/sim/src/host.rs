//! A host: its durable journal, its QEMUs, and the agent that may be running.

use std::collections::BTreeMap;

use agent::core::VmRecord;
use types::HostId;

use crate::agent::Agent;

/// Which QEMU of a host; never used twice.
pub(crate) type Instance = u32;

/// What a QEMU does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Runs,
    Rests,
    /// Stopped by itself to complete its migration.
    Completes,
    /// Waits for an incoming migration.
    Loads,
    Dead,
}

/// QEMU's migration, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Migration {
    None,
    Active,
    Completed,
    Failed,
}

#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    pub(crate) does: Does,
    pub(crate) migration: Migration,
    /// Which state of the VM it holds.
    pub(crate) state: u64,
    /// It holds all of it.
    pub(crate) complete: bool,
    /// Its memory cannot be written to from outside any more.
    pub(crate) sealed: bool,
}

impl Qemu {
    pub(crate) fn runs(&self) -> bool {
        self.does == Does::Runs
    }
    pub(crate) fn alive(&self) -> bool {
        self.does != Does::Dead
    }
}

pub(crate) struct Host {
    pub(crate) id: HostId,
    /// Power is on.
    pub(crate) up: bool,
    /// What the journal holds, if anything.
    pub(crate) disk: Option<VmRecord<Instance>>,
    /// Until then nothing can be written.
    pub(crate) full_until: u64,
    pub(crate) qemus: BTreeMap<Instance, Qemu>,
    pub(crate) next_instance: Instance,
    pub(crate) agent: Option<Agent>,
    /// Counts starts of the agent; what belongs to an earlier one is void.
    pub(crate) life: u32,
    /// The agent does not act before (it is stopped, not killed).
    pub(crate) frozen_until: u64,
}

impl Host {
    pub(crate) fn new(name: &str) -> Option<Self> {
        Some(Self {
            id: name.parse().ok()?,
            up: true,
            disk: None,
            full_until: 0,
            qemus: BTreeMap::new(),
            next_instance: 1,
            agent: None,
            life: 0,
            frozen_until: 0,
        })
    }
}
