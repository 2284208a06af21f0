//! A plan made, shown, applied and followed to its end.

use std::time::{Duration, Instant};

use api::body::PlanRequest;
use api::{Client, ClientError};
use tokio::time::sleep;
use types::{Code, MoveState, PlanDocument, PlanGoal, PlanRun};

use super::text;
use crate::connect::Connect;
use crate::failure::{CANCELLED, Failure, PARTIAL, TIMED_OUT};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::span;
use crate::wait::{Wait, passes};

/// A plan that lasts longer than this goes on without the command.
pub(super) const TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const POLL: Duration = Duration::from_millis(300);
/// How often a plan is made anew because the fleet changed before it was applied.
const TRIES: u32 = 5;

/// How a plan is carried out.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Touch nothing; show what would move, where to, in which order and why.
    #[arg(long, conflicts_with_all = ["no_wait", "wait", "timeout"])]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) wait: Wait,
    #[command(flatten)]
    pub(super) connect: Connect,
}

/// Plans for a goal and carries the plan out.
pub(super) async fn out(goal: PlanGoal, how: How, output: &Output) -> Result<(), Failure> {
    let client = how.connect.client()?;
    let request = PlanRequest { goal };
    if how.dry_run {
        let document = client.plan(&request).await?;
        output.result(&document, |document| text::document(document, output.style()))?;
        return text::blockers(&document);
    }
    let interrupt = Interrupt::catch()?;
    let run = begin(&client, &request, output).await?;
    finish(&client, run, &how.wait, interrupt, output).await
}

/// Carries out a plan that was made before.
pub(super) async fn apply(
    document: &PlanDocument,
    how: How,
    output: &Output,
) -> Result<(), Failure> {
    let client = how.connect.client()?;
    if how.dry_run {
        let now = client.plan(&PlanRequest { goal: document.goal.clone() }).await?;
        let drift = document.drift(&now.state);
        if let Some(first) = drift.first() {
            let message = format!("the fleet is not as it was when the plan was made: {first}");
            return Err(Failure::new(Code::PlanDrifted.exit(), message));
        }
        return output.result(document, |document| text::document(document, output.style()));
    }
    let interrupt = Interrupt::catch()?;
    let run = client.apply(document).await?;
    finish(&client, run, &how.wait, interrupt, output).await
}

/// Plans and applies; a fleet that changes in between is planned anew.
pub(super) async fn begin(
    client: &Client,
    request: &PlanRequest,
    output: &Output,
) -> Result<PlanRun, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let document = client.plan(request).await?;
        match client.apply(&document).await {
            Ok(run) => {
                if !output.is_data() {
                    output.message(text::document(&document, output.plain()).trim_end());
                }
                return Ok(run);
            }
            Err(ClientError::Problem(p)) if p.code == Code::PlanDrifted && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn finish(
    client: &Client,
    run: PlanRun,
    wait: &Wait,
    mut interrupt: Interrupt,
    output: &Output,
) -> Result<(), Failure> {
    if !wait.wanted() {
        return output.one(&run, run.id, |run| text::run(run, output.style()));
    }
    let run = follow(client, run, wait.timeout(TIMEOUT), &mut interrupt, output).await?;
    output.one(&run, run.id, |run| text::run(run, output.style()))?;
    verdict(&run)
}

/// Whether a plan that has ended did all that was wanted.
pub(super) fn verdict(run: &PlanRun) -> Result<(), Failure> {
    if run.complete() {
        return Ok(());
    }
    let names: Vec<String> = run.left.iter().map(ToString::to_string).collect();
    let left = match names.is_empty() {
        true => "nothing is left to do".to_owned(),
        false => format!("still where they were: {}", names.join(", ")),
    };
    if run.stopping {
        return Err(Failure::new(CANCELLED, format!("{} was stopped; {left}", run.goal)).help(
            format!(
                "`godwit {}` goes on; `godwit host uncordon` lets VMs go to a host again",
                run.goal
            ),
        ));
    }
    Err(Failure::new(PARTIAL, format!("{} is not complete: {left}", run.goal)).help(format!(
        "`godwit plan show {}` says why; after that, `godwit {}` goes on",
        run.id, run.goal
    )))
}

/// Follows a plan until it has ended. The first Ctrl-C stops it, the second leaves it
/// to itself.
pub(super) async fn follow(
    client: &Client,
    run: PlanRun,
    timeout: Duration,
    interrupt: &mut Interrupt,
    output: &Output,
) -> Result<PlanRun, Failure> {
    let (start, id) = (Instant::now(), run.id);
    let mut told = Told::default();
    let mut run = run;
    let mut away = false;
    loop {
        told.tell(&run, output);
        if run.ended.is_some() {
            return Ok(run);
        }
        let later = format!("it goes on; `godwit plan show {id}` tells how it ends");
        if start.elapsed() >= timeout {
            let span = span::show(timeout.as_secs_f64());
            return Err(Failure::new(
                TIMED_OUT,
                format!("{} has not ended after {span}", run.goal),
            )
            .help(later));
        }
        tokio::select! {
            () = sleep(POLL.min(timeout.saturating_sub(start.elapsed()))) => {}
            () = interrupt.next() => {
                if run.stopping {
                    return Err(Failure::new(TIMED_OUT, "detached".to_owned()).help(later));
                }
                output.message("stopping: moves under way end, no more begin; Ctrl-C again detaches");
                run = client.stop_plan(id).await?;
                continue;
            }
        }
        match client.plan_run(id).await {
            Ok(newer) => {
                if std::mem::take(&mut away) {
                    output.message("the controller answers again");
                }
                run = newer;
            }
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut away, true) {
                    output.message(&format!("{error}; the plan goes on, waiting"));
                }
            }
            Err(error) => return Err(Failure::from(error).help(later)),
        }
    }
}

/// What has been told of a plan's moves.
#[derive(Debug, Default)]
struct Told(Vec<&'static str>);

impl Told {
    fn tell(&mut self, run: &PlanRun, output: &Output) {
        self.0.resize(run.moves.len(), "waiting");
        let ended = run.moves.iter().filter(|m| m.state.ended()).count();
        for (told, planned) in self.0.iter_mut().zip(&run.moves) {
            let word = planned.state.word();
            if *told == word {
                continue;
            }
            *told = word;
            let p = &planned.planned;
            let from = p.from.as_ref().map_or("-", |from| from.as_str());
            let mut line =
                format!("{ended}/{} {word:7} {} {from} -> {}", run.moves.len(), p.vm, p.to);
            if let MoveState::Failed { why } | MoveState::Skipped { why } = &planned.state {
                line += &format!(": {why}");
            }
            output.message(&line);
        }
    }
}
