//! `godwit simulate`: the planner on a saved fleet; nothing is touched.

use std::fmt::Write;
use std::path::PathBuf;

use planner::fleet::{Goal, plan};
use planner::reassign::{Crew, Job, Options};
use types::{Code, Fleet, FleetPlan, HostId, Problem};

use crate::failure::{Failure, USAGE};
use crate::files;
use crate::output::{Output, Style};
use crate::table::Table;

/// Largest fleet in bytes.
const MAX: u64 = 256 << 20;
/// Refusals that are shown of a VM that finds no place.
const REFUSALS: usize = 5;

/// What to ask.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    godwit simulate -f fleet.json --drain host-3\n  \
    godwit simulate -f fleet.json --balance --remove host-2 -o json")]
pub(crate) struct Args {
    /// The fleet (JSON; `-` reads standard input).
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Empty this host; may be repeated.
    #[arg(long, value_name = "HOST", conflicts_with_all = ["balance", "restore"])]
    drain: Vec<HostId>,
    /// Spread load evenly.
    #[arg(long, conflicts_with = "restore")]
    balance: bool,
    /// Bring VMs home.
    #[arg(long)]
    restore: bool,
    /// As if this host had died: its VMs run nowhere; may be repeated.
    #[arg(long, value_name = "HOST")]
    remove: Vec<HostId>,
    /// As if there were one more host like `LIKE`; may be repeated.
    #[arg(long, value_name = "HOST=LIKE")]
    add: Vec<String>,
    /// As if the policy were another, e.g. `threshold_percent=70`; may be repeated.
    #[arg(long, value_name = "FIELD=VALUE")]
    policy: Vec<String>,
    /// Moves to try; more may find a better plan.
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    moves: u64,
    /// Where chance begins: another seed may give another plan.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Parts that large fleets are dealt into: the same plan on every machine.
const WORKERS: usize = 4;

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let mut fleet: Fleet = files::json(&args.file, MAX)?;
    change(&mut fleet, &args)?;
    let goal = match () {
        () if args.balance => Goal::Balance,
        () if args.restore => Goal::Restore,
        () if args.drain.is_empty() => Goal::Settle,
        () => Goal::Drain(args.drain),
    };
    let options = Options { seed: args.seed, moves: args.moves, workers: WORKERS };
    let plan = plan(&fleet, &goal, &options, &Threads)?;
    output.result(&plan, |plan| describe(plan, output.style()))
}

/// A thread a job.
struct Threads;

impl Crew for Threads {
    fn run(&self, jobs: Vec<Job<'_>>) {
        std::thread::scope(|scope| {
            for job in jobs {
                scope.spawn(job);
            }
        });
    }
}

fn change(fleet: &mut Fleet, args: &Args) -> Result<(), Failure> {
    for removed in &args.remove {
        let before = fleet.hosts.len();
        fleet.hosts.retain(|host| host.name != *removed);
        if fleet.hosts.len() == before {
            return Err(no_host(removed).into());
        }
        for vm in &mut fleet.vms {
            vm.host.take_if(|host| host == removed);
            vm.home.take_if(|home| home == removed);
        }
    }
    for added in &args.add {
        let wrong = || Failure::new(USAGE, format!("--add {added}: HOST=LIKE is expected"));
        let (name, like) = added.split_once('=').ok_or_else(wrong)?;
        let parsed = |text: &str| text.parse::<HostId>().map_err(Failure::of);
        let like = parsed(like)?;
        let mut host = fleet
            .hosts
            .iter()
            .find(|h| h.name == like)
            .cloned()
            .ok_or_else(|| Failure::from(no_host(&like)))?;
        host.name = parsed(name)?;
        host.cordoned = false;
        fleet.hosts.push(host);
    }
    for set in &args.policy {
        let wrong = |why: String| Failure::new(USAGE, format!("--policy {set}: {why}"));
        let (field, value) =
            set.split_once('=').ok_or_else(|| wrong("FIELD=VALUE is expected".to_owned()))?;
        let mut policy = serde_json::to_value(&fleet.policy).map_err(Failure::of)?;
        let value = serde_json::from_str(value).map_err(|e| wrong(e.to_string()))?;
        policy[field] = value;
        fleet.policy = serde_json::from_value(policy).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(())
}

fn no_host(host: &HostId) -> Problem {
    Problem::new(Code::HostUnknown, format!("the fleet has no host {host}"))
}

/// The plan for people.
pub(crate) fn describe(plan: &FleetPlan, style: Style) -> String {
    let mut text = String::new();
    if plan.moves.is_empty() {
        text.push_str("Nothing moves.\n");
    } else {
        text.push_str(&moves(plan, style));
        let _ = writeln!(
            text,
            "\n{} moves in {} waves, {:.0} s. Cost of the fleet {:.1}, afterwards {:.1} (thousandths of a host above the threshold).",
            plan.moves.len(),
            plan.moves.iter().map(|m| m.wave + 1).max().unwrap_or(0),
            plan.makespan_seconds,
            plan.cost_before,
            plan.cost_after
        );
    }
    for blocked in &plan.blocked {
        let _ = writeln!(text, "\n{} finds no place:", blocked.vm);
        for refusal in blocked.refusals.iter().take(REFUSALS) {
            let why: Vec<String> = refusal.obstacles.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  {} {}", refusal.host, why.join("; "));
        }
        if let Some(more) = blocked.refusals.len().checked_sub(REFUSALS).filter(|n| *n > 0) {
            let _ = writeln!(text, "  and {more} hosts more (-o json has all)");
        }
        let changes: Vec<String> = blocked.unblock.iter().map(ToString::to_string).collect();
        match &blocked.host {
            Some(host) => {
                let _ = writeln!(text, "  {host} could take it after this: {}", changes.join("; "));
            }
            None => text.push_str("  no change of rules or room would make it movable\n"),
        }
    }
    for rule in &plan.unfulfilled {
        let _ = writeln!(text, "\nRule {rule} is not fulfilled.");
    }
    if let Some(admission) = &plan.admission {
        let names: Vec<String> = admission.fails_with.iter().map(ToString::to_string).collect();
        let _ = match admission.lost.len() {
            0 => writeln!(text, "\nThe fleet survives any {} host failure(s).", admission.failures),
            n => writeln!(
                text,
                "\nThe fleet does not survive the failure of {}: {n} VMs find no place.",
                names.join(", ")
            ),
        };
    }
    text
}

fn moves(plan: &FleetPlan, style: Style) -> String {
    let mut table = Table::new(["WAVE", "VM", "FROM", "TO", "START", "TAKES", "WHY THERE"]);
    for planned in &plan.moves {
        let why = match (&planned.next_best, planned.choices) {
            (Some((host, more)), n) => format!("best of {n}; {host} costs {more:.3} more"),
            (None, _) => "the only host that can take it".to_owned(),
        };
        table.row([
            planned.wave.to_string(),
            planned.vm.to_string(),
            planned.from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            planned.to.to_string(),
            format!("{:.1} s", planned.start_seconds),
            format!("{:.1} s", planned.seconds),
            why,
        ]);
    }
    table.styled(style)
}
