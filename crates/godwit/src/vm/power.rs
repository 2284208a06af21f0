//! `godwit vm stop|reboot`: the guest is asked first, unless it is to be hard.

use api::Client;
use api::body::{RebootRequest, VmView};
use types::{RunState, VmName};

use super::wait::{self, Goal};
use super::{Act, One, TIMEOUT, change, show};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// What to end, or to begin anew.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// At once, as if its power were cut or its reset button pressed; what the guest
    /// has not written is lost.
    #[arg(long)]
    hard: bool,
    #[command(flatten)]
    act: Act,
}

pub(crate) async fn stop(args: Args, output: &Output) -> Result<(), Failure> {
    if args.hard {
        let ask = async |client: &Client, vm: &VmName| client.stop(vm).await;
        return change(args.act, RunState::Stopped, ask, output).await;
    }
    let ask = async |client: &Client, vm: &VmName| client.shutdown(vm).await;
    guest(args.act, ("power off", RunState::Stopped, 0), ask, output).await
}

pub(crate) async fn reboot(args: Args, output: &Output) -> Result<(), Failure> {
    let request = RebootRequest { hard: args.hard };
    let ask = async |client: &Client, vm: &VmName| client.reboot(vm, &request).await;
    if !args.hard {
        return guest(args.act, ("reboot", RunState::Running, 1), ask, output).await;
    }
    let One { vm, connect } = args.act.one;
    let view = ask(&connect.client()?, &vm).await?;
    output.one(&view, &view.spec.name, |_| format!("{vm} begins anew\n"))
}

/// Asks the guest for something, and waits until it is there: a state, so many starts
/// from now.
async fn guest(
    act: Act,
    (what, state, starts): (&str, RunState, u64),
    ask: impl AsyncFnOnce(&Client, &VmName) -> Result<VmView, api::ClientError>,
    output: &Output,
) -> Result<(), Failure> {
    let Act { one: One { vm, connect }, wait } = act;
    let client = connect.client()?;
    let work = async {
        let before = client.vm(&vm).await?;
        let view = ask(&client, &vm).await?;
        if !wait.wanted() {
            return output.one(&view, &vm, |_| format!("{vm} is asked to {what}\n"));
        }
        let hard = if starts > 0 { "reboot" } else { "stop" };
        let goal = Goal {
            state,
            before: before.error,
            asked: None,
            start: before.start_generation + starts,
            help: Some(format!(
                "its guest was asked to {what} and may not listen; `godwit vm {hard} {vm} --hard` \
                 does not ask"
            )),
        };
        let view = wait::until(&client, &vm, goal, wait.timeout(TIMEOUT), output).await?;
        output.one(&view, &view.spec.name, show::sentence)
    };
    let goes_on = format!("{vm} is still asked to {what}");
    let help = format!("`godwit vm show {vm} --watch` follows it");
    Interrupt::catch()?.or_detach(work, goes_on, help).await
}
