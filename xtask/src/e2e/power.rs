//! Power button, reset button, and a spec that changes. The guests have no program
//! that listens to the power button, so where one would, the scenario tells them.

use std::time::Duration;

use anyhow::{Result, ensure};
use types::{Bytes, RunState};

use super::linux::Guest;
use super::stage::Stage;
use super::{Scenario, Scene};
use crate::guests::{self, Linux};
use crate::proc::{self, Messages, Running};

/// Buttons and changes.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "power",
    about: "reset, reboot and stop by the buttons; processors change while it is stopped",
    scene: Scene::Fast,
    long: false,
    play: buttons,
}];

/// Longest a guest may take to boot, or to end.
const SOON: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(20);

fn buttons(stage: &mut Stage) -> Result<()> {
    let memory = Bytes::mib(192);
    let guest = Guest::start(
        stage,
        &Linux { name: "power", number: 61, memory, vcpus: 1, roles: "beat", disks: Vec::new() },
    )?;
    let first = guest.says("boot")?;
    stage.fleet.run(&["vm", "reboot", "power", "--hard"])?;
    let second = booted_after(&guest, &first)?;

    let asked = command(stage, &["vm", "reboot", "power", "--timeout", "3m"])?;
    told(stage, "reboot-requested")?;
    power_off(&guest)?;
    ends(asked, 0, "")?;
    let third = booted_after(&guest, &second)?;
    ensure!(stage.view(&guest.vm)?.start_generation == 2, "{:?}", stage.view(&guest.vm)?);

    let deaf = command(stage, &["vm", "stop", "power", "--timeout", "1s"])?;
    ends(deaf, 5, "`godwit vm stop power --hard`")?;
    ensure!(guest.says("boot")? == third, "it was not to be hard");
    let more = command(stage, &["vm", "set", "power", "--vcpus", "2"])?;
    ends(more, 4, "[vm-not-stopped]")?;
    stage.fleet.run(&["vm", "set", "power", "--label", "asked=twice"])?;
    power_off(&guest)?;
    stage.wait(&guest.vm, RunState::Stopped)?;
    stage.fleet.run(&["vm", "set", "power", "--vcpus", "2"])?;
    stage.fleet.run(&["vm", "start", "power"])?;
    guests::wait_boot(guest.ip)?;
    ensure!(guest.status("cpus")? == 2, "the guest has {} processors", guest.says("cpus")?);
    stage.hop(&guest.vm, stage.not_owner(&guest.vm)?)?;
    stage.fleet.run(&["vm", "stop", "power", "--hard"])?;
    ensure!(stage.view(&guest.vm)?.state == Some(RunState::Stopped), "power was cut");
    for word in ["vm-reset", "rebooted", "shutdown-requested", "vm-set", "powered-off"] {
        told(stage, word)?;
    }
    Ok(())
}

fn power_off(guest: &Guest) -> Result<()> {
    // It may be quicker than its answer.
    let _ = guests::control(guest.ip, ANSWER)?.ask("poweroff");
    Ok(())
}

fn booted_after(guest: &Guest, before: &str) -> Result<String> {
    proc::until("the guest's next boot", SOON, || {
        Ok(guest.says("boot").ok().filter(|now| now != before))
    })
}

fn command(stage: &Stage, words: &[&str]) -> Result<Running> {
    Running::start(&mut stage.fleet.godwit(words), Messages::Kept)
}

fn ends(command: Running, code: i32, told: &str) -> Result<()> {
    let ended = command.wait(SOON * 2)?;
    let right = ended.status.code() == Some(code) && ended.stderr.contains(told);
    ensure!(right, "expected code {code} and {told:?}: {ended:?}");
    Ok(())
}

fn told(stage: &Stage, event: &str) -> Result<()> {
    proc::until(&format!("{event} in the history"), ANSWER, || {
        let history = stage.fleet.run(&["audit", "history", "--vm", "power"])?;
        Ok(history.contains(event).then_some(()))
    })
}
