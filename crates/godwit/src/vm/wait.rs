//! Waits until a VM is in the state that was asked for.

use std::time::{Duration, Instant};

use api::Client;
use api::body::VmView;
use tokio::time::sleep;
use types::{RunState, VmName};

use crate::failure::{FAILED, Failure, TIMED_OUT};
use crate::output::Output;
use crate::span;
use crate::wait::passes;

const POLL: Duration = Duration::from_millis(200);
/// An error that stood there before is the answer only if it still stands after this.
const STALE: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Goal {
    /// The state.
    pub(crate) state: RunState,
    /// The VM's error before the state was asked for.
    pub(crate) before: Option<String>,
    /// What it is asked to be while that is waited for; nothing: the guest was asked.
    pub(crate) asked: Option<RunState>,
    /// The start that it has to be, at least.
    pub(crate) start: u64,
    /// What would help if it takes too long.
    pub(crate) help: Option<String>,
}

impl Goal {
    /// A state that was asked for; `before` is the VM's error until then.
    pub(crate) fn asked(state: RunState, before: Option<String>) -> Self {
        Self { state, before, asked: Some(state), start: 0, help: None }
    }
}

/// The VM, once it is in the state.
pub(crate) async fn until(
    client: &Client,
    vm: &VmName,
    goal: Goal,
    timeout: Duration,
    output: &Output,
) -> Result<VmView, Failure> {
    let begun = Instant::now();
    let mut away = false;
    loop {
        let seen = client.vm(vm).await;
        let waited = begun.elapsed();
        match seen {
            Ok(view) => match judge(&view, &goal, waited) {
                Verdict::Reached => return Ok(view),
                Verdict::Failed(why) => {
                    return Err(Failure::new(FAILED, format!("{vm}: {why}")));
                }
                Verdict::NotYet => away = false,
            },
            Err(error) if passes(&error) && waited < timeout => {
                if !std::mem::replace(&mut away, true) {
                    output.message(&format!("{error}; waiting"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        if waited >= timeout {
            let span = span::show(timeout.as_secs_f64());
            let message = format!("{vm} is not {} after {span}", goal.state);
            let goes_on = || format!("see `godwit vm show {vm}`; it goes on without this command");
            return Err(Failure::new(TIMED_OUT, message).help(goal.help.unwrap_or_else(goes_on)));
        }
        sleep(POLL).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    Failed(String),
}

fn judge(view: &VmView, goal: &Goal, waited: Duration) -> Verdict {
    let state = match &view.ownership {
        // Never started, so nothing runs.
        None => view.state.unwrap_or(RunState::Stopped),
        Some(_) => match view.state {
            Some(state) => state,
            None => return Verdict::NotYet,
        },
    };
    if state == goal.state && view.start_generation >= goal.start {
        return Verdict::Reached;
    }
    match &view.error {
        Some(error) if view.error != goal.before || waited >= STALE => {
            return Verdict::Failed(error.clone());
        }
        _ => {}
    }
    if goal.asked.is_some_and(|asked| view.desired != asked) {
        return Verdict::Failed(format!("it is {state}, and by now asked to be {}", view.desired));
    }
    Verdict::NotYet
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Incarnation, Ownership};

    fn view(state: Option<RunState>, desired: RunState, error: Option<&str>) -> VmView {
        VmView {
            spec: toml::from_str("name = \"web01\"\nmemory = \"2MiB\"").unwrap(),
            ownership: Some(Ownership {
                owner: "host-a".parse().unwrap(),
                epoch: Epoch(1),
                incarnation: Incarnation(1),
                attempt: None,
                settled: true,
            }),
            desired,
            start_generation: 1,
            state,
            halted: None,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn old_errors_do_not_end_the_wait_at_once() {
        use RunState::{Running, Stopped};
        use Verdict::{Failed, NotYet, Reached};
        let soon = Duration::from_secs(1);
        for (seen, before, waited, expected) in [
            (view(Some(Running), Running, None), None, soon, Reached),
            (view(None, Running, None), None, soon, NotYet),
            (view(Some(Stopped), Running, None), None, soon, NotYet),
            (view(Some(Stopped), Running, Some("no")), None, soon, Failed("no".into())),
            (view(Some(Stopped), Running, Some("no")), Some("no"), soon, NotYet),
            (view(Some(Stopped), Running, Some("no")), Some("no"), STALE, Failed("no".into())),
            (view(Some(Stopped), Running, Some("b")), Some("a"), soon, Failed("b".into())),
            (
                view(Some(Stopped), Stopped, None),
                None,
                soon,
                Failed("it is stopped, and by now asked to be stopped".into()),
            ),
        ] {
            let goal = Goal { before: before.map(str::to_owned), ..Goal::asked(Running, None) };
            assert_eq!(judge(&seen, &goal, waited), expected, "{seen:?}");
        }
    }

    #[test]
    fn what_never_started_is_stopped() {
        let mut seen = view(None, RunState::Stopped, None);
        seen.ownership = None;
        let goal = Goal::asked(RunState::Stopped, None);
        assert_eq!(judge(&seen, &goal, Duration::ZERO), Verdict::Reached);
    }
}
