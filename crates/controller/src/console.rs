//! Consoles: a user's connection and one of the owner's agent are put together.
//!
//! Agents do not listen, so each keeps a request open that is answered when a user
//! comes. Nothing of it is durable but a line of history; a session that breaks is
//! begun again by the user's side, which knows what it has shown.

mod splice;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::console::{self, ConsoleQuery, Control};
use api::{Peer, Rejection, path};
use axum::Extension;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use types::{Code, HostId, Problem, RunState, SerialSpec, VmId, VmName};

use crate::core::Note;
use crate::records::{Records, Scope};
use crate::routes::Routes;
use crate::shell::Shell;
use crate::users;

/// Sessions of one VM: one that types, and readers.
const PER_VM: usize = 8;
/// Sessions of all VMs.
const ALL: usize = 256;
/// Connections that one agent may hold ready.
const OFFERS: usize = 4;
/// How long an agent's request is kept.
const KEPT: Duration = Duration::from_secs(15);
/// How long a user waits for the owner's connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn routes(routes: Routes) -> Routes {
    let consoles = Extension(Arc::<Consoles>::default());
    routes
        .upgrade(path::VM_CONSOLE, get(attach).layer(consoles.clone()))
        .upgrade(path::AGENT_CONSOLE, get(offer).layer(consoles))
}

/// Sessions, and connections that wait for one.
#[derive(Default)]
struct Consoles {
    offers: Mutex<HashMap<HostId, Vec<oneshot::Sender<Joined>>>>,
    offered: Notify,
    sessions: Mutex<Vec<Session>>,
}

/// A session under way.
struct Session {
    vm: VmId,
    id: String,
    writer: bool,
    /// Dropped to end it.
    _stop: oneshot::Sender<()>,
    number: u64,
}

/// A user for whom an agent's connection is wanted.
struct Joined {
    user: OnUpgrade,
    open: Control,
    place: Seat,
}

/// A session's place; given back when it is dropped.
struct Seat {
    consoles: Arc<Consoles>,
    number: u64,
    stopped: oneshot::Receiver<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.consoles.sessions().retain(|session| session.number != self.number);
    }
}

impl Consoles {
    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offers(&self) -> MutexGuard<'_, HashMap<HostId, Vec<oneshot::Sender<Joined>>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among the sessions of a VM.
    fn seat(
        self: &Arc<Self>,
        vm: VmId,
        name: &VmName,
        query: &ConsoleQuery,
    ) -> Result<Seat, Problem> {
        let mut sessions = self.sessions();
        let writer = !query.read_only;
        // Its own earlier place, and the writer's if that is to go.
        sessions.retain(|s| {
            s.vm != vm || (s.id != query.session && !(query.take_over && writer && s.writer))
        });
        let of_vm = || sessions.iter().filter(|s| s.vm == vm);
        if writer && of_vm().any(|s| s.writer) {
            return Err(Problem::new(
                Code::ConsoleInUse,
                format!("somebody types at {name} already"),
            )
            .remedy("look on with --read-only, or end that session with --take-over"));
        }
        if of_vm().count() >= PER_VM || sessions.len() >= ALL {
            let detail = format!("there are {PER_VM} sessions of {name}, or {ALL} of all VMs");
            return Err(Problem::new(Code::ConsoleInUse, detail).remedy("wait until one ends"));
        }
        let number = sessions.iter().map(|s| s.number).max().unwrap_or(0) + 1;
        let (stop, stopped) = oneshot::channel();
        sessions.push(Session { vm, id: query.session.clone(), writer, _stop: stop, number });
        Ok(Seat { consoles: Arc::clone(self), number, stopped })
    }

    /// Gives the user to a connection of the host's agent.
    async fn join(&self, host: &HostId, mut joined: Joined) -> Result<(), Problem> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let offered = self.offered.notified();
            while let Some(offer) = self.offers().get_mut(host).and_then(Vec::pop) {
                match offer.send(joined) {
                    Ok(()) => return Ok(()),
                    // That agent's connection has ended meanwhile.
                    Err(back) => joined = back,
                }
            }
            if timeout_at(deadline, offered).await.is_err() {
                let detail = format!("{host} offers no connection to its consoles");
                return Err(Problem::new(Code::HostDown, detail).remedy(format!(
                    "check that the agent of {host} runs and is of this version"
                )));
            }
        }
    }
}

/// An agent's connection, until a user comes.
async fn offer(
    Extension(consoles): Extension<Arc<Consoles>>,
    peer: Peer,
    request: Request,
) -> Result<Response, Rejection> {
    let host = peer.host()?;
    let agent = upgrade(request)?;
    let (offer, joined) = oneshot::channel();
    {
        let mut offers = consoles.offers();
        let waiting = offers.entry(host).or_default();
        waiting.retain(|offer| !offer.is_closed());
        // The oldest is the likeliest to be dead.
        if waiting.len() >= OFFERS {
            waiting.remove(0);
        }
        waiting.push(offer);
    }
    consoles.offered.notify_waiters();
    let Ok(Ok(Joined { user, open, place })) = timeout(KEPT, joined).await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    tokio::spawn(async move {
        let mut place = place;
        tokio::select! {
            ended = splice::run(user, agent, open) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a console's session broke");
                }
            }
            _ = &mut place.stopped => {}
        }
    });
    Ok(switching())
}

/// A user's connection.
async fn attach(
    State(shell): State<Shell>,
    Extension(consoles): Extension<Arc<Consoles>>,
    peer: Peer,
    Path(wanted): Path<String>,
    Query(query): Query<ConsoleQuery>,
    request: Request,
) -> Result<Response, Rejection> {
    let admin = peer.admin()?.to_owned();
    let invalid = |what: &str| Problem::new(Code::InvalidRequest, what);
    let wanted: VmName =
        wanted.parse().map_err(|e: types::IdError| invalid(&format!("the path: {e}")))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if !(1..=64).contains(&query.session.len()) || !query.session.bytes().all(plain) {
        return Err(invalid("session: 1 to 64 letters, digits and `-`").into());
    }
    let seen = console::places(&query.seen).ok_or_else(|| invalid("seen: INSTANCE:POSITION,…"))?;
    let user = upgrade(request)?;
    let (vm, records) = users::find(&shell, &wanted).await?;
    let host = reachable(&shell, vm, &records, query.read_only)?;
    let name = records.vm_name().unwrap_or(wanted);
    let place = consoles.seat(vm, &name, &query)?;
    record(&shell, vm, &host, &query, admin).await?;
    let open = Control::Open { vm, writer: !query.read_only, seen };
    consoles.join(&host, Joined { user, open, place }).await?;
    Ok(switching())
}

/// The host whose agent can serve the VM's console.
fn reachable(
    shell: &Shell,
    id: VmId,
    records: &Records,
    read_only: bool,
) -> Result<HostId, Problem> {
    let (Some(vm), own) = (&records.vm, &records.own) else {
        return Err(Problem::new(Code::VmUnknown, "the VM was removed just now"));
    };
    let name = &vm.spec.name;
    let no_console = |why: &str, remedy: &str| {
        Err(Problem::new(Code::NoConsole, format!("{name}: {why}")).remedy(remedy))
    };
    match vm.spec.serial {
        SerialSpec::None => {
            return no_console("it has no serial port", "set `serial = \"console\"` in its spec");
        }
        SerialSpec::Log if !read_only => {
            let remedy = "look on with --read-only, or set `serial = \"console\"` in its spec";
            return no_console("its serial port is only logged", remedy);
        }
        SerialSpec::Log | SerialSpec::Console => {}
    }
    let stopped = shell.observed(id, records).is_some_and(|s| s.facts.state == RunState::Stopped);
    match own {
        Some(own) if vm.desired != RunState::Stopped || !stopped => Ok(own.owner.clone()),
        _ => Err(Problem::new(Code::VmNotRunning, format!("{name} does not run"))
            .remedy(format!("start it: `godwit vm start {name}`"))),
    }
}

/// Who looks at a console, or types at it, stands in the history.
async fn record(
    shell: &Shell,
    vm: VmId,
    host: &HostId,
    query: &ConsoleQuery,
    admin: String,
) -> Result<(), Problem> {
    let how = if query.read_only { ", reading only" } else { "" };
    let again = if query.seen.is_empty() { "" } else { ", again" };
    let note = Note::by(admin, "console-attached").detail(format!("on {host}{how}{again}"));
    let decide = move |records: &mut Records| {
        records.notes = vec![note.clone()];
        Ok(())
    };
    shell.change(Scope::vm(vm), decide).await
}

/// What becomes the connection's bytes once `101` has been answered.
fn upgrade(request: Request) -> Result<OnUpgrade, Problem> {
    let (mut parts, _) = request.into_parts();
    let named = parts.headers.get(header::UPGRADE).is_some_and(|v| v == console::PROTOCOL);
    match parts.extensions.remove::<OnUpgrade>() {
        Some(upgrade) if named => Ok(upgrade),
        _ => Err(Problem::new(
            Code::InvalidRequest,
            format!("this needs an HTTP/1.1 upgrade to {}", console::PROTOCOL),
        )
        .remedy("use `godwit vm console`")),
    }
}

fn switching() -> Response {
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, console::PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
