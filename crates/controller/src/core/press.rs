//! Buttons: what asks a guest, or its machine, rather than Godwit.

use api::body::{Button, Ended, Press};
use types::{Code, Ownership, Problem, RunState};

use super::vm::{idle, running};
use super::{Note, Observed, Vm};

/// Presses a button of a VM that runs. A VM that is off is off already.
pub fn press(
    vm: &mut Vm,
    own: Option<&Ownership>,
    seen: Option<&Observed>,
    button: Button,
    user: &str,
) -> Result<Vec<Note>, Problem> {
    idle(vm, own)?;
    if button == Button::Power && vm.desired == RunState::Stopped {
        return Ok(Vec::new());
    }
    running(vm, seen)?;
    let name = &vm.spec.name;
    let own =
        own.ok_or_else(|| Problem::new(Code::VmNotRunning, format!("{name} does not run")))?;
    let rests = vm.desired == RunState::Paused || seen.is_some_and(|s| s.facts.halted.is_some());
    if rests && button != Button::Reset {
        let detail = format!("{name} stands still, so its guest cannot hear that it shall end");
        return Err(Problem::new(Code::VmNotRunning, detail)
            .remedy(format!("`godwit vm resume {name}` first, or do it with --hard")));
    }
    let number = vm.press.map_or(0, |press| press.number) + 1;
    let (start_generation, epoch) = (vm.start_generation, own.epoch);
    vm.press = Some(Press { button, number, start_generation, epoch });
    let event = match button {
        Button::Power => "shutdown-requested",
        Button::Reboot => "reboot-requested",
        Button::Reset => "vm-reset",
    };
    Ok(vec![Note::by(user, event)])
}

/// A guest that powered off because a reboot was asked for is started again.
pub(super) fn started_again(vm: &mut Vm, own: &Ownership, ended: Option<Ended>) -> Option<Note> {
    let meant = vm.press.is_some_and(|press| {
        press.button == Button::Reboot
            && press.start_generation == vm.start_generation
            && press.epoch == own.epoch
    });
    if !meant || ended == Some(Ended::Died) {
        return None;
    }
    vm.start_generation += 1;
    let detail = format!("on {}, start {}", own.owner, vm.start_generation);
    Some(Note::by(&own.owner, "rebooted").detail(detail))
}
