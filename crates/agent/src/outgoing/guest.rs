//! What the guest does meanwhile: it reboots, powers off, panics, or its disk fails.
//!
//! A VM that comes to rest by itself before it was claimed stays where it is: the
//! attempt ends, and the reason says what the guest did. The next one moves the VM as
//! it rests.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::body::{AttemptIntent, AttemptPatch, Ended};
use handoff::source::{Seen, Stage};
use qmp::Event;
use types::RunState;

use super::{Input, Run};
use crate::core::{Qemu, run_state};
use crate::vm::{Vm, by_guest};

/// More reboots than this in one attempt are one story.
const MOST_TOLD: u32 = 16;
/// Why an attempt ends whose guest powered off.
const POWERED_OFF: &str = "the guest powered off";

/// What is to be said of the VM before anything is begun.
pub(super) fn at_begin(vm: &Vm, found: Qemu, intent: &AttemptIntent) -> Option<Seen> {
    let reason = match (found, vm.record.ended) {
        (Qemu::Off, _) | (Qemu::Dead, Some(Ended::PoweredOff)) => POWERED_OFF.to_owned(),
        (Qemu::Dead, _) => "the VM's QEMU has ended".to_owned(),
        // It failed after the migration was asked for, and the destination expects a VM that runs.
        (Qemu::Halted, _) if !intent.record.resting && intent.desired == RunState::Running => {
            rests(vm.halted.as_deref().unwrap_or("unknown"))
        }
        _ => return None,
    };
    Some(Seen::Abort(reason))
}

/// In words, why a VM came to rest by itself.
fn rests(status: &str) -> String {
    match status {
        "guest-panicked" => "the guest panicked".to_owned(),
        "io-error" => "the VM stopped at an I/O error".to_owned(),
        other => format!("the VM stopped by itself ({other})"),
    }
}

impl Run<'_> {
    /// QEMU says something by itself.
    pub(super) fn qemu_event(&mut self, event: &Event, queue: &mut VecDeque<Seen>) {
        let Event::Named { name, data, at } = event else { return };
        let text = |key: &str| data.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        match name.as_str() {
            "STOP" => {
                self.stopped_at.get_or_insert(*at);
                self.hurry.store(true, Ordering::Relaxed);
                self.look_why();
            }
            "SHUTDOWN" if by_guest(event) => self.powered_off(queue),
            "RESET" if data.get("guest").and_then(|v| v.as_bool()) == Some(true) => {
                self.tell("guest-rebooted", None);
            }
            "GUEST_PANICKED" => self.tell("guest-panicked", None),
            "BLOCK_IO_ERROR" => {
                let detail = format!("{} of {}: {}", text("operation"), disk(data), text("reason"));
                self.tell("io-error", Some(detail));
            }
            _ => {}
        }
    }

    fn tell(&mut self, event: &str, detail: Option<String>) {
        self.told += 1;
        if self.told <= MOST_TOLD {
            self.reporter.post(event, detail, AttemptPatch::default());
        }
    }

    /// A stop that nobody ordered is QEMU's own, to complete, or the guest's affair.
    fn look_why(&mut self) {
        let copying = self.core.stage() == Stage::Copying;
        let undecided = copying || self.core.stage() == Stage::Preparing;
        let (true, Ok(qmp)) = (undecided, self.vm.qmp()) else { return };
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let asked = tokio::time::timeout(Duration::from_secs(1), qmp.status()).await;
            let input = match asked {
                Ok(Ok(status)) => Input::AtRest(status.status),
                // Completing, it may not answer.
                _ if copying => Input::Seen(Seen::StoppedItself),
                _ => return,
            };
            let _ = inputs.send(input).await;
        });
    }

    pub(super) fn at_rest(&mut self, status: &str, queue: &mut VecDeque<Seen>) {
        match run_state(status) {
            Qemu::Off => self.powered_off(queue),
            Qemu::Halted => queue.push_back(Seen::Abort(rests(status))),
            // It went on already.
            Qemu::Running => self.stopped_at = None,
            Qemu::Paused | Qemu::Dead if self.core.stage() == Stage::Copying => {
                queue.push_back(Seen::StoppedItself);
            }
            Qemu::Paused | Qemu::Dead => {}
        }
    }

    /// The guest is off, whoever has the VM in the end: the record is told at once, so
    /// that either no claim succeeds any more or the new owner ends the VM.
    pub(super) fn powered_off(&mut self, queue: &mut VecDeque<Seen>) {
        if self.vm.record.ended.replace(Ended::PoweredOff).is_some() {
            return;
        }
        let (powered_off, abort) = (Some(true), Some(POWERED_OFF.to_owned()));
        let patch = AttemptPatch { powered_off, abort, ..AttemptPatch::default() };
        self.reporter.post("guest-powered-off", None, patch);
        queue.push_back(Seen::Abort(POWERED_OFF.to_owned()));
    }
}

/// The disk an I/O error is about, as the spec counts them.
fn disk(data: &serde_json::Value) -> String {
    let name = |key: &str| data.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty());
    let name = name("node-name").or_else(|| name("device")).unwrap_or("a disk");
    match name.strip_prefix("disk") {
        Some(index) => format!("disks[{index}]"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_as_in_the_spec() {
        let named = |json| disk(&json);
        assert_eq!(named(serde_json::json!({ "device": "", "node-name": "disk2" })), "disks[2]");
        assert_eq!(named(serde_json::json!({ "device": "seed" })), "seed");
        assert_eq!(named(serde_json::json!({})), "a disk");
    }
}
