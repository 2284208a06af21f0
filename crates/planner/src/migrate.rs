//! Whether a migration may begin, and where it goes.

use types::{AttemptId, Code, HostId, Problem, RunState};

use crate::compare::differences;
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
    /// Why its QEMU says that it cannot migrate.
    pub blockers: &'a [String],
}

/// All that stands against a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Against moving the VM at all.
    pub vm: Vec<Problem>,
    /// Against each other host, by name; nothing: the VM may go there.
    pub hosts: Vec<(HostId, Vec<Problem>)>,
}

/// Looks at every host that the VM is not on.
pub fn survey(wanted: &Move<'_>, hosts: &[Host]) -> Survey {
    let mut vm: Vec<Problem> = wanted.leaves(hosts).err().into_iter().collect();
    vm.extend(wanted.blocked());
    let from = hosts.iter().find(|h| Some(&h.id) == wanted.from);
    let others = hosts.iter().filter(|h| Some(&h.id) != wanted.from);
    let mut hosts: Vec<_> = others.map(|to| (to.id.clone(), wanted.against(from, to))).collect();
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    Survey { vm, hosts }
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
    wanted.blocked().map_or(Ok(()), Err)?;
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

    /// A device that keeps the VM where it is.
    fn blocked(&self) -> Option<Problem> {
        let (vm, why) = (&self.demand.vm, self.blockers.first()?);
        Some(
            Problem::new(
                Code::DeviceNotMigratable,
                format!("{vm} has a device that cannot migrate; its QEMU says: {why}"),
            )
            .remedy("remove the device from the VM, or stop the VM and start it there"),
        )
    }

    /// Whether the VM can go from one host to another.
    fn goes(&self, from: &Host, to: &Host) -> Result<(), Problem> {
        self.blocked().map_or(Ok(()), Err)?;
        self.against(Some(from), to).into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that stands against the VM going from one host to another.
    fn against(&self, from: Option<&Host>, to: &Host) -> Vec<Problem> {
        let mut all = self.demand.against(to);
        if let Some(from) = from.filter(|_| to.up) {
            all.extend(differences(self.demand, from, to));
        }
        if let Some((host, attempt)) = self.clearing.iter().find(|(host, _)| *host == to.id) {
            let vm = &self.demand.vm;
            all.push(
                Problem::new(
                    Code::MigrationUnderWay,
                    format!("{host} still clears up what attempt {attempt} left of {vm}"),
                )
                .remedy("wait until that attempt is done, or choose another host"),
            );
        }
        all
    }
}
