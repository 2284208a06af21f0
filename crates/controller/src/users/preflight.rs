//! Whether a migration may begin, where it would go, and what would be of it.

use api::body::{Candidate, Forecast, MigrateRequest, PreflightView};
use planner::Demand;
use store::Range;
use types::{AttemptId, HostId, Outcome, Problem, RunState, VmId, VmName};
use uuid::Uuid;

use super::find;
use crate::call::Call;
use crate::core::Attempt;
use crate::fleet::Fleet;
use crate::keys;
use crate::records::Records;
use crate::shell::{Shell, parse_all};
use crate::when::now_ms;

/// How far back a forecast looks, in milliseconds.
const PAST: i64 = 30 * 24 * 60 * 60 * 1000;
/// Most attempts that it looks at.
const MAX_ATTEMPTS: usize = 2000;

/// Everything a preflight looks at.
struct Situation {
    demand: Demand,
    from: Option<HostId>,
    state: Option<RunState>,
    attempt: Option<AttemptId>,
    clearing: Vec<(HostId, AttemptId)>,
    blockers: Vec<String>,
    hosts: Vec<planner::Host>,
}

impl Situation {
    async fn read(shell: &Shell, id: VmId, mut records: Records) -> Result<Self, Problem> {
        let seen = shell.observed(id, &records).map(|seen| seen.facts);
        let own = records.own.take();
        let vm = records.vm_mut()?;
        let state = match vm.desired {
            RunState::Stopped => Some(RunState::Stopped),
            _ => seen.as_ref().map(|facts| facts.state),
        };
        let fleet = Fleet::read(shell).await?;
        Ok(Self {
            demand: Demand::from(&vm.spec),
            from: own.as_ref().map(|own| own.owner.clone()),
            state,
            attempt: own.and_then(|own| own.attempt),
            clearing: fleet.clearing(id),
            blockers: seen.map(|facts| facts.blockers).unwrap_or_default(),
            hosts: fleet.hosts(shell),
        })
    }

    fn wanted(&self) -> planner::Move<'_> {
        planner::Move {
            demand: &self.demand,
            from: self.from.as_ref(),
            state: self.state,
            attempt: self.attempt,
            clearing: &self.clearing,
            blockers: &self.blockers,
        }
    }

    fn target(&self, to: Option<&HostId>) -> Result<HostId, Problem> {
        let wanted = self.wanted();
        match to {
            Some(to) => planner::preflight(&wanted, to, &self.hosts).map(|()| to.clone()),
            None => planner::destination(&wanted, &self.hosts).map(|host| host.id.clone()),
        }
    }
}

/// The host to go to, which has passed the preflight.
pub(super) async fn target(
    shell: &Shell,
    id: VmId,
    records: Records,
    to: Option<&HostId>,
) -> Result<HostId, Problem> {
    Situation::read(shell, id, records).await?.target(to)
}

pub(super) async fn show(
    call: Call<VmName, MigrateRequest, PreflightView>,
) -> Result<PreflightView, Problem> {
    let (id, records) = find(&call.shell, &call.at).await?;
    let situation = Situation::read(&call.shell, id, records).await?;
    let (to, refusal) = match situation.target(call.body.to.as_ref()) {
        Ok(to) => (Some(to), None),
        Err(problem) => (None, Some(problem)),
    };
    let survey = planner::survey(&situation.wanted(), &situation.hosts);
    let hosts = survey.hosts.into_iter().map(|(host, refusals)| Candidate { host, refusals });
    Ok(PreflightView {
        vm: situation.demand.vm.clone(),
        from: situation.from.clone(),
        to,
        refusal,
        refusals: survey.vm,
        hosts: hosts.collect(),
        forecast: forecast(&call.shell, id, situation.demand.memory.0).await?,
    })
}

/// What the VM's last migration was like.
async fn forecast(shell: &Shell, vm: VmId, memory_bytes: u64) -> Result<Forecast, Problem> {
    let begin = AttemptId(begin_of(now_ms().saturating_sub(PAST)));
    let range = Range {
        prefix: keys::ATTEMPTS.into(),
        after: Some(keys::attempt(begin)),
        limit: MAX_ATTEMPTS,
    };
    let attempts: Vec<Attempt> = parse_all(&shell.range(range).await?)?;
    let last = attempts
        .into_iter()
        .map(|attempt| attempt.record)
        .rev()
        .find(|record| record.vm == vm && record.report.outcome == Some(Outcome::Completed));
    let Some(last) = last else { return Ok(Forecast { memory_bytes, ..Forecast::default() }) };
    Ok(Forecast {
        memory_bytes,
        attempt: Some(last.id),
        total_seconds: last.report.total_seconds,
        blackout_seconds: last.report.blackout_seconds,
        sent_bytes: Some(last.report.sent_bytes),
        mode: last.report.mode,
    })
}

/// The first id of its time: ids of attempts begin with their milliseconds.
fn begin_of(at_ms: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(at_ms).unwrap_or(0) << 80)
}
