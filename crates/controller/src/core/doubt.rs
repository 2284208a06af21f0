//! What only a person can know: that a host is off.

use api::body::VmFacts;
use handoff::record;
use types::{Code, HostId, Incarnation, Ownership, Problem, RunState};

use super::restored::close;
use super::{Attempt, Note, Vm};

/// Who says what.
#[derive(Debug, Clone)]
pub struct Word {
    /// The administrator.
    pub user: String,
    /// What was typed.
    pub statement: Option<String>,
}

impl Word {
    /// Wants exactly the sentence, typed by somebody who has looked.
    fn check(&self, expected: &str) -> Result<(), Problem> {
        if self.statement.as_deref().map(str::trim) == Some(expected) {
            return Ok(());
        }
        Err(Problem::new(Code::StatementNeeded, "two hosts could run the VM at once if you err")
            .remedy(format!(
                "make sure of it, then say: --statement \"{expected}\" (it is kept with your name)"
            )))
    }
}

/// `host` has the VM's one good copy: its record becomes the owner's, whatever it
/// was. `facts` are what that host says now.
pub fn resolve(
    vm: &mut Vm,
    own: &mut Option<Ownership>,
    attempt: Option<&mut Attempt>,
    (host, facts): (&HostId, Option<&VmFacts>),
    now: Incarnation,
    word: &Word,
) -> Result<Vec<Note>, Problem> {
    let name = vm.spec.name.clone();
    let before = own.clone();
    let others = others(before.as_ref(), attempt.as_deref(), host);
    let doubtful = before.as_ref().is_none_or(|o| o.incarnation != now || o.attempt.is_some());
    if !doubtful && others.is_empty() {
        let detail = format!("{host} owns {name}, and nothing is in doubt");
        return Err(Problem::new(Code::NotInDoubt, detail));
    }
    let dead = format!("`godwit vm start {name} --on {host} --host-is-dead` starts it anew");
    let state = facts.map(|f| f.state).filter(|state| *state != RunState::Stopped);
    let state = state.ok_or_else(|| {
        let detail = format!("{host} does not say that it has {name}");
        Problem::new(Code::VmNotRunning, detail).remedy(dead.clone())
    })?;
    if let (Some(attempt), Some(own)) = (attempt.as_deref(), &before) {
        let claimed = own.owner == attempt.record.to;
        let good = if claimed { &attempt.record.to } else { &attempt.record.from };
        if own.attempt == Some(attempt.record.id) && host != good {
            let what = if claimed { "stale" } else { "not complete" };
            let detail = format!("the copy of {name} on {host} is {what}");
            return Err(Problem::new(Code::TooLate, detail).remedy(dead));
        }
    }
    word.check(&sentence(&others, &name))?;
    let past =
        before.as_ref().map(|o| o.epoch).max(facts.and_then(|f| Some(f.ownership.as_ref()?.epoch)));
    let epoch = past.unwrap_or_default().next();
    if let Some(attempt) = attempt {
        close(attempt, host, Some(format!("resolved by {}", word.user)));
    }
    *own = Some(Ownership {
        owner: host.clone(),
        epoch,
        incarnation: now,
        attempt: None,
        settled: true,
    });
    vm.desired = state;
    vm.start_generation = vm.start_generation.max(facts.map_or(0, |f| f.start_generation));
    let statement = word.statement.as_deref().unwrap_or_default();
    Ok(vec![
        Note::by(&word.user, "resolved")
            .detail(format!("{host} owns it, epoch {epoch}; stated: {statement}")),
    ])
}

/// Starts the VM on `on` although its owner has not said that it is stopped there:
/// the owner's host is dead, and with it the VM's memory.
pub fn start_elsewhere(
    vm: &mut Vm,
    own: &mut Ownership,
    attempt: Option<&mut Attempt>,
    on: &HostId,
    up: impl Fn(&HostId) -> bool,
    now: Incarnation,
    word: &Word,
) -> Result<Vec<Note>, Problem> {
    let name = &vm.spec.name;
    let dead = own.owner.clone();
    if dead == *on {
        let detail = format!("{name} is on {on} already");
        return Err(Problem::new(Code::SameHost, detail).remedy("leave --host-is-dead out"));
    }
    if up(&dead) {
        return Err(Problem::new(Code::HostUp, format!("{dead} is up"))
            .remedy(format!("`godwit vm stop {name}`, then start it on {on}")));
    }
    let mut off = vec![dead.clone()];
    if let Some(attempt) = attempt.as_deref() {
        let parties = [&attempt.record.from, &attempt.record.to];
        off.extend(parties.into_iter().filter(|p| **p != dead && *p != on && !up(p)).cloned());
    }
    word.check(&sentence(&off, name))?;
    // The other side must never go on with what it has: once claimed, the VM has run
    // on the dead host; before, it will have run here.
    match attempt {
        Some(attempt) => {
            record::take_over(own, Some(&mut attempt.record), &dead, on)?;
            close(attempt, &dead, Some(format!("{dead} is dead, says {}", word.user)));
        }
        None => {
            record::take_over(own, None, &dead, on)?;
        }
    }
    own.incarnation = now;
    vm.desired = RunState::Running;
    vm.start_generation += 1;
    let statement = word.statement.as_deref().unwrap_or_default();
    Ok(vec![Note::by(&word.user, "vm-started").detail(format!(
        "on {on}, start {}, epoch {}; {dead} is dead; stated: {statement}",
        vm.start_generation, own.epoch
    ))])
}

/// Everybody else who may have a copy.
fn others(own: Option<&Ownership>, attempt: Option<&Attempt>, host: &HostId) -> Vec<HostId> {
    let parties = attempt.into_iter().flat_map(|a| [&a.record.from, &a.record.to]);
    let mut all: Vec<HostId> = own.iter().map(|o| &o.owner).chain(parties).cloned().collect();
    all.sort();
    all.dedup();
    all.retain(|other| other != host);
    all
}

/// What has to be typed.
fn sentence(off: &[HostId], name: &types::VmName) -> String {
    if off.is_empty() {
        return format!("no other host runs {name}");
    }
    let each: Vec<String> = off.iter().map(|host| format!("{host} is off")).collect();
    each.join(" and ")
}
