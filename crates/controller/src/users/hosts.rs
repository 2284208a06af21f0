//! Hosts: shown, cordoned, uncordoned.

use api::body::{Cordon, CordonRequest, HostView, Nothing};
use types::{Code, HostId, Problem};

use crate::call::Call;
use crate::core::Note;
use crate::fleet::Fleet;
use crate::records::{Records, Scope};
use crate::routes::Plain;
use crate::shell::Shell;

/// Longest reason, in characters.
const MAX_REASON: usize = 200;

pub(super) async fn list(call: Plain<Vec<HostView>>) -> Result<Vec<HostView>, Problem> {
    Ok(Fleet::read(&call.shell).await?.views(&call.shell))
}

pub(super) async fn cordon(
    call: Call<HostId, CordonRequest, HostView>,
) -> Result<HostView, Problem> {
    let reason = call.body.reason.clone();
    if reason
        .as_ref()
        .is_some_and(|r| r.chars().count() > MAX_REASON || r.contains(char::is_control))
    {
        let detail = "reason: at most 200 characters, without control characters";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let time = jiff::Timestamp::now().to_string();
    let cordon = Cordon { by: call.user(), time, reason };
    turn(call, Some(cordon)).await
}

pub(super) async fn uncordon(call: Call<HostId, Nothing, HostView>) -> Result<HostView, Problem> {
    turn(call, None).await
}

/// Cordons a host for a plan, or lets VMs go there again; a host that is so already
/// keeps the reason it has.
pub(super) async fn turn_for(
    shell: &Shell,
    host: &HostId,
    user: &str,
    wanted: Option<Cordon>,
) -> Result<(), Problem> {
    let view = view(shell, host).await?;
    let user = user.to_owned();
    let decide = move |records: &mut Records| {
        turned(records, &view.facts.host, &user, wanted.as_ref());
        Ok(())
    };
    shell.change(Scope::host(host.clone()), decide).await
}

/// Makes it so, unless it is already.
async fn turn<B>(
    call: Call<HostId, B, HostView>,
    wanted: Option<Cordon>,
) -> Result<HostView, Problem> {
    let view = view(&call.shell, &call.at).await?;
    let user = call.user();
    let decide = move |records: &mut Records| {
        turned(records, &view.facts.host, &user, wanted.as_ref());
        Ok(HostView { cordon: records.cordon.clone(), ..view.clone() })
    };
    call.change(Scope::host(call.at.clone()), decide).await
}

fn turned(records: &mut Records, host: &HostId, user: &str, wanted: Option<&Cordon>) {
    if records.cordon.is_some() == wanted.is_some() {
        return;
    }
    let event = if wanted.is_some() { "host-cordoned" } else { "host-uncordoned" };
    let detail = match wanted.and_then(|cordon| cordon.reason.as_ref()) {
        Some(reason) => format!("{host}: {reason}"),
        None => host.to_string(),
    };
    records.notes = vec![Note::by(user, event).detail(detail)];
    records.cordon = wanted.cloned();
}

async fn view(shell: &Shell, host: &HostId) -> Result<HostView, Problem> {
    let views = Fleet::read(shell).await?.views(shell);
    views.into_iter().find(|view| view.facts.host == *host).ok_or_else(|| {
        Problem::new(Code::HostUnknown, format!("there is no host {host}"))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard")
    })
}
