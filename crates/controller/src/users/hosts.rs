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

/// Makes it so, unless it is already.
async fn turn<B>(
    call: Call<HostId, B, HostView>,
    wanted: Option<Cordon>,
) -> Result<HostView, Problem> {
    let view = view(&call.shell, &call.at).await?;
    let user = call.user();
    let decide = move |records: &mut Records| {
        if records.cordon.is_some() != wanted.is_some() {
            let event = if wanted.is_some() { "host-cordoned" } else { "host-uncordoned" };
            let reason = wanted.as_ref().and_then(|cordon| cordon.reason.as_ref());
            let detail = match reason {
                Some(reason) => format!("{}: {reason}", view.facts.host),
                None => view.facts.host.to_string(),
            };
            records.notes = vec![Note::by(&user, event).detail(detail)];
            records.cordon.clone_from(&wanted);
        }
        Ok(HostView { cordon: records.cordon.clone(), ..view.clone() })
    };
    call.change(Scope::host(call.at.clone()), decide).await
}

async fn view(shell: &Shell, host: &HostId) -> Result<HostView, Problem> {
    let views = Fleet::read(shell).await?.views(shell);
    views.into_iter().find(|view| view.facts.host == *host).ok_or_else(|| {
        Problem::new(Code::HostUnknown, format!("there is no host {host}"))
            .remedy("see `godwit host ls`; a host is known once its agent has been heard")
    })
}
