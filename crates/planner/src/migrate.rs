//! Whether a migration may begin.

use types::{AttemptId, Code, HostId, Problem, RunState};

use crate::demand::unsuitable;
use crate::{Demand, Host};

/// A migration that somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// What the VM needs.
    pub demand: &'a Demand,
    /// The host that owns it; `None` before its first start.
    pub from: Option<&'a HostId>,
    /// The host it shall go to.
    pub to: &'a HostId,
    /// What its owner saw last; `None`: nothing yet.
    pub state: Option<RunState>,
    /// The migration of it that is under way.
    pub attempt: Option<AttemptId>,
}

/// Whether the migration may begin.
///
/// # Errors
/// The first thing that stands against it, and what would make it possible.
pub fn preflight(wanted: &Move<'_>, hosts: &[Host]) -> Result<(), Problem> {
    let vm = &wanted.demand.vm;
    if let Some(attempt) = wanted.attempt {
        return Err(Problem::new(
            Code::MigrationUnderWay,
            format!("{vm} is being migrated already (attempt {attempt})"),
        )
        .remedy(format!("wait for it to end, or end it with `godwit cancel {vm}`")));
    }
    let idle = || {
        Problem::new(Code::VmNotRunning, format!("{vm} does not run"))
            .remedy(format!("start it first, or start it there: `godwit vm start {vm} --on HOST`"))
    };
    let from = wanted.from.ok_or_else(idle)?;
    if wanted.state == Some(RunState::Stopped) {
        return Err(idle());
    }
    if from == wanted.to {
        return Err(Problem::new(Code::SameHost, format!("{vm} is on {from} already"))
            .remedy("name another host with --to, or none to have one chosen"));
    }
    let find = |id: &HostId| hosts.iter().find(|h| h.id == *id);
    let to = find(wanted.to).ok_or_else(|| {
        Problem::new(Code::HostUnknown, format!("there is no host {}", wanted.to))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard")
    })?;
    let from = find(from).filter(|h| h.up).ok_or_else(|| {
        Problem::new(
            Code::HostDown,
            format!("the agent of {from}, where {vm} is, has not been heard lately"),
        )
        .remedy(format!("start `godwit agent` on {from} and see to its network"))
    })?;
    if wanted.state.is_none() {
        return Err(Problem::new(
            Code::VmNotRunning,
            format!("the agent of {} does not say that {vm} runs", from.id),
        )
        .remedy("wait until `godwit vm show` says that it runs"));
    }
    wanted.demand.fits(to)?;
    if from.accel != to.accel {
        return Err(unsuitable(
            format!(
                "{vm} is executed with {} on {}, and {} offers {}",
                from.accel, from.id, to.id, to.accel
            ),
            format!("choose a host with {}", from.accel),
        ));
    }
    Ok(())
}
