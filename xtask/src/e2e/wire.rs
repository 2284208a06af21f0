//! What Godwit says it sent is what went over the link.

use anyhow::{Result, ensure};
use types::Bytes;

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene};
use crate::guests::Linux;
use crate::proc;
use std::time::Duration;

/// Largest difference.
const TOLERANCE: f64 = 0.02;
/// What else may be on the link, in bytes.
const SMALL: f64 = 262_144.0;

/// What is on the link.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "sent-bytes",
    about: "sent_bytes agrees with the link's counters; the way back costs a tenth at most",
    scene: Scene::Fast,
    long: false,
    play: sent_bytes,
}];

fn sent_bytes(stage: &mut Stage) -> Result<()> {
    let linux = Linux {
        name: "sent",
        number: 31,
        memory: Bytes::mib(512),
        vcpus: 1,
        // Quiet, so that the link carries the move and little else.
        roles: "fill:256,quiet",
        disks: Vec::new(),
    };
    let guest = Guest::start(stage, &linux)?;
    proc::until("256 MiB of content", Duration::from_secs(120), || {
        Ok((guest.status("filled_mib")? >= 256).then_some(()))
    })?;
    let mut all = Vec::new();
    for (from, to) in [("host-a", "host-b"), ("host-b", "host-a")] {
        let before = lab::counters(stage.fleet.dir(), from)?;
        let moved = stage.fleet.migrate(&crate::fleet::Order::to(guest.vm.as_str(), to))?;
        let after = lab::counters(stage.fleet.dir(), from)?;
        let link = (after.tx_bytes - before.tx_bytes) as f64;
        let said = moved.report.sent_bytes as f64;
        let difference = (link - said) / link;
        stage.measure(&format!("link_bytes_{to}"), link);
        stage.measure(&format!("sent_bytes_{to}"), said);
        stage.measure(&format!("difference_{to}"), difference);
        all.push(said);
        // On the way home little travels, and acknowledgements and ARP weigh more.
        ensure!(
            difference.abs() <= TOLERANCE || (link - said).abs() <= SMALL,
            "the link of {from} carried {link} bytes, and the report says {said}: {:.1} % apart",
            difference * 100.0
        );
    }
    // The first host has kept the memory of the VM that left.
    ensure!(
        all[1] * 10.0 < all[0],
        "{} bytes were sent on the way out, {} on the way back",
        all[0],
        all[1]
    );
    Ok(())
}
