//! One request of the contract, read and checked.

use std::marker::PhantomData;

use api::body::Nothing;
use api::{Hangup, Peer};
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{Code, HostId, Incarnation, Problem};

use crate::core;
use crate::idempotency::Key;
use crate::records::{Records, Scope};
use crate::shell::Shell;

/// How a change is to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// Decide and answer, but write nothing.
    pub(crate) dry_run: bool,
    /// Whoever sends it again gets the same answer.
    pub(crate) key: Option<Key>,
}

/// A request with parameter `P`, body `B` and query `Q`, to be answered with `A`.
pub(crate) struct Call<P = (), B = Nothing, A = Nothing, Q = Nothing> {
    pub(crate) shell: Shell,
    /// The parameter of the path.
    pub(crate) at: P,
    pub(crate) body: B,
    pub(crate) query: Q,
    pub(crate) terms: Terms,
    pub(crate) peer: Peer,
    pub(crate) parts: Parts,
    pub(crate) answer: PhantomData<fn() -> A>,
}

/// Nobody acts on what a restored store says before hosts have confirmed it.
fn certain(records: &Records, now: Incarnation) -> Result<(), Problem> {
    if core::confirmed(records.own.as_ref(), now) {
        return Ok(());
    }
    let name = records.vm_name().map_or_else(|| "the VM".to_owned(), |name| name.to_string());
    let detail = format!("the store was restored, and it is not certain which host has {name}");
    Err(Problem::new(Code::InDoubt, detail).remedy(format!(
        "see `godwit controller status`; wait for its hosts, or `godwit vm resolve {name}`"
    )))
}

impl<P, B, A, Q> Call<P, B, A, Q> {
    /// Who asks, for the history.
    pub(crate) fn user(&self) -> String {
        self.peer.name.clone()
    }

    /// The host that asks.
    pub(crate) fn host(&self) -> Result<HostId, Problem> {
        self.peer.host()
    }

    /// A header's text, where it is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// What cuts the connection.
    pub(crate) fn hangup(&self) -> Hangup {
        self.parts.extensions.get::<Hangup>().cloned().unwrap_or_default()
    }

    /// As [`Shell::change`], under the request's terms. What `decide` gives is the
    /// answer, and is kept with the request's key.
    pub(crate) async fn change(
        &self,
        scope: Scope,
        decide: impl Fn(&mut Records) -> Result<A, Problem> + Send + Sync + 'static,
    ) -> Result<A, Problem>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        let now = self.shell.incarnation();
        let decide = move |records: &mut Records| {
            certain(records, now)?;
            decide(records)
        };
        self.shell.change_on(self.terms.clone(), scope, decide).await
    }
}
