//! From the contract's operations to a router, and to the OpenAPI document of
//! exactly what that router serves.

use std::marker::PhantomData;
use std::sync::Arc;

use api::body::Nothing;
use api::openapi::Document;
use api::operation::{Kind, Parameter, Verb, Who};
use api::server::{parse_body, read_body};
use api::{Json, Operation, Peer, Rejection, Role, contract};
use axum::Router;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use types::{Code, Problem};

use crate::call::{Call, Terms};
use crate::idempotency::{self, Key};
use crate::shell::Shell;

/// A router that grows together with its document.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Shell>,
    document: Document,
}

impl Routes {
    /// Serves an operation.
    pub(crate) fn add<P, B, A, Q, H, F>(self, operation: Operation<P, B, A, Q>, handler: H) -> Self
    where
        P: Parameter,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        H: Fn(Call<P, B, A, Q>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Problem>> + Send + 'static,
    {
        let status = StatusCode::from_u16(operation.status).unwrap_or(StatusCode::OK);
        let respond = move |call: Call<P, B, A, Q>| {
            let answer = handler(call);
            async move { Ok((status, Json(answer.await?)).into_response()) }
        };
        self.respond(operation, respond)
    }

    /// Serves an upgrade to another protocol, for which OpenAPI has no words.
    pub(crate) fn upgrade(mut self, path: &str, serve: MethodRouter<Shell>) -> Self {
        self.router = self.router.route(path, serve);
        self
    }

    /// Serves an operation whose handler makes the whole response.
    pub(crate) fn respond<P, B, A, Q, H, F>(
        mut self,
        operation: Operation<P, B, A, Q>,
        handler: H,
    ) -> Self
    where
        P: Parameter,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: JsonSchema + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        H: Fn(Call<P, B, A, Q>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        self.document.add(&operation);
        let serve = move |State(shell): State<Shell>, request: Request| {
            let handler = handler.clone();
            async move {
                serve(operation, shell, request, handler)
                    .await
                    .unwrap_or_else(|problem| Rejection(problem).into_response())
            }
        };
        self.router = self.router.route(operation.path, on(filter(operation.verb), serve));
        self
    }

    /// The router, which serves the document too, and the document.
    pub(crate) fn finish(mut self) -> (Router<Shell>, Arc<Value>) {
        // It is known only when everything, itself included, has been added.
        let document = Arc::new(std::sync::OnceLock::<Arc<Value>>::new());
        let shown = Arc::clone(&document);
        self = self.respond(contract::OPENAPI, move |_| {
            let shown = shown.get().map_or(Value::Null, |value| Value::clone(value));
            async move { Ok(Json(shown).into_response()) }
        });
        let whole = Arc::new(self.document.finish());
        // Set once, here.
        let _ = document.set(Arc::clone(&whole));
        (self.router, whole)
    }
}

fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Put => MethodFilter::PUT,
        Verb::Delete => MethodFilter::DELETE,
    }
}

async fn serve<P, B, A, Q, H, F>(
    operation: Operation<P, B, A, Q>,
    shell: Shell,
    request: Request,
    handler: H,
) -> Result<Response, Problem>
where
    P: Parameter,
    B: DeserializeOwned,
    Q: DeserializeOwned,
    H: Fn(Call<P, B, A, Q>) -> F,
    F: Future<Output = Result<Response, Problem>>,
{
    let (mut parts, body) = request.into_parts();
    let peer = Peer::from_request_parts(&mut parts, &()).await.map_err(|r| r.0)?;
    match operation.who {
        Who::Admin => drop(peer.admin()?),
        Who::Host => drop(peer.host()?),
        Who::Anyone if peer.role == Role::Stranger => drop(peer.admin()?),
        Who::Anyone | Who::Stranger => {}
    }
    let at = parameter(&mut parts).await?;
    let (dry_run, query) = query(&parts.uri, operation.kind)?;
    let bytes = match operation.verb.has_body() {
        true => read_body(body).await?,
        false => Default::default(),
    };
    let body = parse_body(&bytes)?;
    let key = match operation.kind {
        Kind::Change if !dry_run => Key::of(&parts, &peer, &bytes)?,
        _ => None,
    };
    if let Some(answer) = kept(&shell, key.as_ref(), operation.status).await? {
        return Ok(answer);
    }
    let terms = Terms { dry_run, key: key.clone() };
    let status = operation.status;
    let call =
        Call { shell: shell.clone(), at, body, query, terms, peer, parts, answer: PhantomData };
    match handler(call).await {
        Ok(response) => Ok(response),
        // The same request, sent twice at the same time, may have been refused
        // because of what it did the other time.
        Err(problem) => kept(&shell, key.as_ref(), status).await?.ok_or(problem),
    }
}

/// The answer that the request was given before.
async fn kept(shell: &Shell, key: Option<&Key>, status: u16) -> Result<Option<Response>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let Some(answer) = idempotency::kept::<Value>(shell, key).await? else { return Ok(None) };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, Json(answer)).into_response();
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(Some(response))
}

async fn parameter<P: Parameter>(parts: &mut Parts) -> Result<P, Problem> {
    let wrong = |e: String| Problem::new(Code::InvalidRequest, format!("the path: {e}"));
    let all =
        RawPathParams::from_request_parts(parts, &()).await.map_err(|e| wrong(e.body_text()))?;
    let text = all.iter().next().map(|(_, value)| value);
    P::read(text).map_err(wrong)
}

/// `dry_run`, which every change takes, and the operation's own query.
fn query<Q: DeserializeOwned>(uri: &Uri, kind: Kind) -> Result<(bool, Q), Problem> {
    let wrong = |e: String| Problem::new(Code::InvalidRequest, format!("the query: {e}"));
    let mut dry_run = false;
    let mut own = Vec::new();
    for part in uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part.strip_prefix("dry_run=").filter(|_| kind == Kind::Change) {
            Some("true") => dry_run = true,
            Some("false") => dry_run = false,
            Some(_) => return Err(wrong("dry_run: must be true or false".to_owned())),
            None => own.push(part),
        }
    }
    let uri: Uri =
        format!("/?{}", own.join("&")).parse().map_err(|_| wrong("not a query".into()))?;
    let Query(query) = Query::<Q>::try_from_uri(&uri).map_err(|e| wrong(e.body_text()))?;
    Ok((dry_run, query))
}

/// Where nothing is asked for in the path, the query or the body.
pub(crate) type Plain<A> = Call<(), Nothing, A, Nothing>;
