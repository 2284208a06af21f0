//! The one parameter of a path, and the query, with problems instead of plain texts.

use std::fmt::Display;
use std::str::FromStr;

use api::Rejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use types::{Code, Problem};

/// The parameter of the path, checked.
pub(crate) struct Param<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Param<T>
where
    S: Send + Sync,
    T: FromStr<Err: Display>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let wrong = |e: &dyn Display| {
            Rejection(Problem::new(Code::InvalidRequest, format!("the path: {e}")))
        };
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| wrong(&e))?;
        text.parse().map(Self).map_err(|e| wrong(&e))
    }
}

/// The query, checked.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let Query(asked) = Query::<T>::from_request_parts(parts, state).await.map_err(|e| {
            Problem::new(Code::InvalidRequest, format!("the query: {}", e.body_text()))
        })?;
        Ok(Self(asked))
    }
}
