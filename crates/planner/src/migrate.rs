//! Whether a migration may begin, and where it goes.

use types::{AttemptId, Code, HostId, Problem, RunState};

use crate::demand::unsuitable;
use crate::{Demand, Host, roomiest};

/// A migration that somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// What the VM needs.
    pub demand: &'a Demand,
    /// The host that owns it; `None` before its first start.
    pub from: Option<&'a HostId>,
    /// What its owner saw last; `None`: nothing yet.
    pub state: Option<RunState>,
    /// The migration of it that is under way.
    pub attempt: Option<AttemptId>,
    /// Hosts that still clear up what an earlier attempt left of the VM there.
    pub clearing: &'a [(HostId, AttemptId)],
}

/// Whether the migration to `to` may begin.
///
/// # Errors
/// The first thing that stands against it, and what would make it possible.
pub fn preflight(wanted: &Move<'_>, to: &HostId, hosts: &[Host]) -> Result<(), Problem> {
    let vm = &wanted.demand.vm;
    if wanted.at_rest()? == to {
        return Err(Problem::new(Code::SameHost, format!("{vm} is on {to} already"))
            .remedy("name another host with --to, or none to have one chosen"));
    }
    let to = hosts.iter().find(|h| h.id == *to).ok_or_else(|| {
        Problem::new(Code::HostUnknown, format!("there is no host {to}"))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard")
    })?;
    wanted.goes(wanted.leaves(hosts)?, to)
}

/// The host with the most free memory that the VM may migrate to (of equals the
/// first by name).
///
/// # Errors
/// What stands against moving the VM at all; else `no-host`, with the reason of
/// the host that came nearest.
pub fn destination<'a>(wanted: &Move<'_>, hosts: &'a [Host]) -> Result<&'a Host, Problem> {
    wanted.at_rest()?;
    let from = wanted.leaves(hosts)?;
    roomiest(&wanted.demand.vm, hosts, Some(&from.id), |to| wanted.goes(from, to))
}

impl Move<'_> {
    /// The host the VM is on, if it runs and is not being moved.
    fn at_rest(&self) -> Result<&HostId, Problem> {
        let vm = &self.demand.vm;
        if let Some(attempt) = self.attempt {
            return Err(Problem::new(
                Code::MigrationUnderWay,
                format!("{vm} is being migrated already (attempt {attempt})"),
            )
            .remedy(format!("wait for it to end, or end it with `godwit cancel {vm}`")));
        }
        match self.from {
            Some(from) if self.state != Some(RunState::Stopped) => Ok(from),
            _ => Err(Problem::new(Code::VmNotRunning, format!("{vm} does not run")).remedy(
                format!("start it first, or start it there: `godwit vm start {vm} --on HOST`"),
            )),
        }
    }

    /// The host the VM leaves, if it can be left.
    fn leaves<'a>(&self, hosts: &'a [Host]) -> Result<&'a Host, Problem> {
        let (vm, from) = (&self.demand.vm, self.at_rest()?);
        let from = hosts.iter().find(|h| h.id == *from && h.up).ok_or_else(|| {
            Problem::new(
                Code::HostDown,
                format!("the agent of {from}, where {vm} is, has not been heard lately"),
            )
            .remedy(format!("start `godwit agent` on {from} and see to its network"))
        })?;
        if self.state.is_none() {
            return Err(Problem::new(
                Code::VmNotRunning,
                format!("the agent of {} does not say that {vm} runs", from.id),
            )
            .remedy("wait until `godwit vm show` says that it runs"));
        }
        Ok(from)
    }

    /// Whether the VM can go from one host to another.
    fn goes(&self, from: &Host, to: &Host) -> Result<(), Problem> {
        let vm = &self.demand.vm;
        self.demand.fits(to)?;
        if from.accel != to.accel {
            return Err(unsuitable(
                format!(
                    "{vm} is executed with {} on {}, and {} offers {}",
                    from.accel, from.id, to.id, to.accel
                ),
                format!("choose a host with {}", from.accel),
            ));
        }
        if self.demand.uefi && from.uefi != to.uefi {
            return Err(unsuitable(
                format!(
                    "{vm} runs with the UEFI firmware of {}, and that of {} differs",
                    from.id, to.id
                ),
                format!("install the same version of the firmware on {} and {}", from.id, to.id),
            ));
        }
        if let Some((host, attempt)) = self.clearing.iter().find(|(host, _)| *host == to.id) {
            return Err(Problem::new(
                Code::MigrationUnderWay,
                format!("{host} still clears up what attempt {attempt} left of {vm}"),
            )
            .remedy("wait until that attempt is done, or choose another host"));
        }
        Ok(())
    }
}
