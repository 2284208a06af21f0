//! What must hold, whatever the parties believe.

use crate::host::Qemu;
use crate::world::World;

/// A rule that was broken, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The rule and what broke it.
    pub what: String,
    /// Milliseconds of virtual time.
    pub at_ms: u64,
}

/// Knows which state of the VM is the newest, by who executed it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    newest: u64,
    /// The VM died with its host or its owner's QEMU.
    pub(crate) crashed: bool,
    broke: Option<Violation>,
}

impl Oracle {
    pub(crate) fn breaks(&mut self, at_ms: u64, what: impl Into<String>) {
        self.broke.get_or_insert_with(|| Violation { what: what.into(), at_ms });
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.broke.as_ref()
    }

    /// A VM is started afresh; its state.
    pub(crate) fn afresh(&mut self) -> u64 {
        self.crashed = false;
        self.newest += 1;
        self.newest
    }

    /// A copy with this state goes on; its state after the first instruction.
    pub(crate) fn goes_on(&mut self, at_ms: u64, state: u64) -> u64 {
        if state != self.newest {
            self.breaks(at_ms, "I3: a copy goes on after another has executed");
        }
        self.newest += 1;
        self.newest
    }

    /// Whether it lives and holds the newest state.
    pub(crate) fn is_newest(&self, qemu: &Qemu) -> bool {
        qemu.alive() && qemu.complete && qemu.state == self.newest
    }

    /// Looks at everything.
    pub(crate) fn look(&mut self, world: &World) {
        let qemus = || world.hosts.iter().flat_map(|h| h.qemus.values().map(move |q| (h, q)));
        let running = qemus().filter(|(_, q)| q.runs()).count();
        if running > 1 {
            self.breaks(world.now, "I1: two run");
        }
        if !self.crashed && world.started && !qemus().any(|(_, q)| self.is_newest(q)) {
            self.breaks(world.now, "I2: no copy is left");
        }
        let owner = &world.controller.own.owner;
        if let Some((host, _)) = qemus().find(|(h, q)| q.runs() && h.id != *owner) {
            let what = format!("I1: it runs on {}, but the record names {owner}", host.id);
            self.breaks(world.now, what);
        }
        if qemus().any(|(_, q)| q.runs() && !q.sealed) {
            self.breaks(world.now, "I3: it runs while pages may still be placed");
        }
    }
}
