//! What users ask of a VM, and what its owner says of it.

use api::body::{Ended, VmFacts};
use types::{Code, Epoch, HostId, Incarnation, Ownership, Problem, RunState};

use super::migrate::under_way;
use super::press::started_again;
use super::{Note, Vm};

/// What a VM's owner said of it last.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// What it said.
    pub facts: VmFacts,
    /// It had been told the VM's newest intent when it said so.
    pub informed: bool,
    /// It had been told that it owns the VM, at the present epoch, when it said so.
    /// What it said before may be of an earlier stay of the VM.
    pub owning: bool,
}

/// Longest reason of a rest that is kept.
const MAX_WHY: usize = 64;

type Decision = Result<Vec<Note>, Problem>;

/// Starts the VM on `on`, or where it was last. `incarnation` and `past`, the
/// last epoch of a removed VM of the same UUID, are for a first start.
pub fn start(
    vm: &mut Vm,
    own: &mut Option<Ownership>,
    seen: Option<&Observed>,
    on: &HostId,
    (incarnation, past): (Incarnation, Epoch),
    user: &str,
) -> Decision {
    idle(vm, own.as_ref())?;
    let name = &vm.spec.name;
    // On the same host a stale word does no harm: it starts no running VM again.
    let failed = seen.is_some_and(|s| s.off(vm));
    if vm.desired != RunState::Stopped && !failed {
        let owner = own.as_ref().map(|o| &o.owner);
        return match (vm.desired, owner == Some(on)) {
            (RunState::Running, true) => Ok(Vec::new()),
            (RunState::Paused, true) => {
                Err(Problem::new(Code::VmNotStopped, format!("{name} is paused"))
                    .remedy(format!("`godwit vm resume {name}` lets it go on")))
            }
            _ => Err(not_stopped(vm, "it runs on another host")
                .remedy(format!("move it there: `godwit migrate {name} --to {on}`"))),
        };
    }
    match own {
        None => {
            *own = Some(Ownership {
                owner: on.clone(),
                epoch: past.next(),
                incarnation,
                attempt: None,
                settled: true,
            });
        }
        Some(own) if own.owner != *on => {
            if !seen.is_some_and(|s| s.stopped(vm)) {
                let why = format!("{} has not said that it is stopped there", own.owner);
                return Err(not_stopped(vm, &why)
                    .remedy(format!("stop it and wait, or start it on {}", own.owner)));
            }
            own.owner = on.clone();
            own.epoch = own.epoch.next();
        }
        Some(_) => {}
    }
    vm.desired = RunState::Running;
    vm.start_generation += 1;
    let detail = format!("on {on}, start {}", vm.start_generation);
    Ok(vec![Note::by(user, "vm-started").detail(detail)])
}

/// Stops the VM at once.
pub fn stop(vm: &mut Vm, own: Option<&Ownership>, user: &str) -> Decision {
    idle(vm, own)?;
    Ok(turn(vm, RunState::Stopped, Note::by(user, "vm-stopped")))
}

/// Stops its processors.
pub fn pause(
    vm: &mut Vm,
    own: Option<&Ownership>,
    seen: Option<&Observed>,
    user: &str,
) -> Decision {
    idle(vm, own)?;
    running(vm, seen)?;
    Ok(turn(vm, RunState::Paused, Note::by(user, "vm-paused")))
}

/// Lets its processors go on.
pub fn resume(
    vm: &mut Vm,
    own: Option<&Ownership>,
    seen: Option<&Observed>,
    user: &str,
) -> Decision {
    idle(vm, own)?;
    running(vm, seen)?;
    let halted = seen.is_some_and(|s| s.facts.halted.is_some());
    if halted && vm.desired == RunState::Running {
        // What went wrong is repaired, or so the user thinks.
        vm.resumes += 1;
        return Ok(vec![Note::by(user, "vm-resumed")]);
    }
    Ok(turn(vm, RunState::Running, Note::by(user, "vm-resumed")))
}

/// Whether the VM may be forgotten.
pub fn removable(vm: &Vm, own: Option<&Ownership>, seen: Option<&Observed>) -> Result<(), Problem> {
    idle(vm, own)?;
    let stop = format!("`godwit vm stop {}`, then try again", vm.spec.name);
    if vm.desired != RunState::Stopped {
        return Err(not_stopped(vm, "it is to run").remedy(stop));
    }
    match own {
        // A start that was taken back before it was acted on never counts as done.
        Some(own) if !seen.is_some_and(|s| s.stopped(vm) || s.off_and_informed()) => {
            let why = format!("{} has not said that it is stopped there", own.owner);
            Err(not_stopped(vm, &why).remedy(format!("wait for the agent of {}", own.owner)))
        }
        _ => Ok(()),
    }
}

/// The owner saw the guest power off: it shall stay off.
pub fn powered_off(vm: &mut Vm, own: &Ownership, seen: &Observed) -> Vec<Note> {
    let off = seen.stopped(vm) && seen.facts.error.is_none();
    if !off || vm.desired != RunState::Running || own.attempt.is_some() {
        return Vec::new();
    }
    let event = match seen.facts.ended {
        Some(Ended::Died) => "qemu-died",
        Some(Ended::PoweredOff) | None => "powered-off",
    };
    vm.halted = None;
    if let Some(note) = started_again(vm, own, seen.facts.ended) {
        return vec![note];
    }
    turn(vm, RunState::Stopped, Note::by(&own.owner, event))
}

/// A guest that powered off while its VM changed hands: the new owner ends it.
pub fn powered_off_in_flight(vm: &mut Vm, host: &HostId) -> Vec<Note> {
    turn(vm, RunState::Stopped, Note::by(host, "powered-off"))
}

/// The history is told when a VM comes to rest by itself, and when it goes on.
pub fn halted(vm: &mut Vm, own: &Ownership, seen: &Observed) -> Vec<Note> {
    let here = seen.owning && own.attempt.is_none() && seen.facts.state != RunState::Stopped;
    if !here || vm.halted == seen.facts.halted {
        return Vec::new();
    }
    vm.halted = seen.facts.halted.as_deref().map(|why| why.chars().take(MAX_WHY).collect());
    match &vm.halted {
        Some(why) => vec![Note::by(&own.owner, "halted").detail(why)],
        None => vec![Note::by(&own.owner, "goes-on")],
    }
}

/// The owner says which versioned machine an alias stands for; from now on it
/// is the VM's.
pub fn machine_seen(vm: &mut Vm, own: &Ownership, facts: &VmFacts) -> Vec<Note> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    if versioned(&vm.spec.machine) || !versioned(machine) {
        return Vec::new();
    }
    let mut spec = vm.spec.clone();
    spec.machine.clone_from(machine);
    if spec.check().is_err() {
        return Vec::new();
    }
    let detail = format!("{} is {machine}", vm.spec.machine);
    vm.spec = spec;
    vec![Note::by(&own.owner, "machine-fixed").detail(detail)]
}

/// `pc-q35-7.2` rather than `q35`.
fn versioned(machine: &str) -> bool {
    let Some((_, version)) = machine.rsplit_once('-') else { return false };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    version.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor))
}

fn turn(vm: &mut Vm, desired: RunState, note: Note) -> Vec<Note> {
    if vm.desired == desired {
        return Vec::new();
    }
    vm.desired = desired;
    vec![note]
}

pub(super) fn idle(vm: &Vm, own: Option<&Ownership>) -> Result<(), Problem> {
    match own {
        Some(own) if own.attempt.is_some() => Err(under_way(vm)),
        _ => Ok(()),
    }
}

pub(super) fn running(vm: &Vm, seen: Option<&Observed>) -> Result<(), Problem> {
    if vm.desired != RunState::Stopped && !seen.is_some_and(|s| s.off(vm)) {
        return Ok(());
    }
    let name = &vm.spec.name;
    Err(Problem::new(Code::VmNotRunning, format!("{name} does not run"))
        .remedy(format!("start it: `godwit vm start {name}`")))
}

fn not_stopped(vm: &Vm, why: &str) -> Problem {
    Problem::new(Code::VmNotStopped, format!("{} is not stopped: {why}", vm.spec.name))
}

impl Observed {
    /// The VM is surely stopped: its owner, knowing that it is the owner, has acted
    /// on the newest start and sees no QEMU.
    fn stopped(&self, vm: &Vm) -> bool {
        self.owning && self.off(vm)
    }

    /// The owner has acted on the newest start and saw no QEMU.
    fn off(&self, vm: &Vm) -> bool {
        self.facts.state == RunState::Stopped && self.facts.start_generation == vm.start_generation
    }

    /// The owner knows that the VM shall be stopped, and sees no QEMU.
    fn off_and_informed(&self) -> bool {
        self.facts.state == RunState::Stopped && self.informed && self.owning
    }
}
