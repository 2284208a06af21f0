//! Requests that were answered before are answered alike, and do nothing again.
//!
//! The answer is written in the same transaction as the change, so there is no
//! moment at which one is durable without the other. The newest ones are kept in a
//! ring, so their number is bounded without ever counting them.

use api::Peer;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Transaction;
use types::{Code, Problem};

use crate::records::{parse, text};
use crate::shell::Shell;
use crate::when::now_ms;

/// The header that bears a key.
const HEADER: &str = "idempotency-key";
/// Longest key.
const MAX_KEY: usize = 255;
/// How long an answer counts, in milliseconds.
const LIFE: i64 = 24 * 60 * 60 * 1000;
/// Answers that are kept.
const MAX_KEPT: u64 = 4096;
/// The number of the next answer.
const NEXT: &str = "/idempotency/next";

/// A user's key, with the request it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Of user and key.
    name: String,
    /// Of method, path, query and body.
    request: String,
}

/// What was answered.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    request: String,
    at_ms: i64,
    answer: Value,
}

impl Key {
    /// The key of a request, where it bears one.
    pub(crate) fn of(parts: &Parts, peer: &Peer, body: &[u8]) -> Result<Option<Self>, Problem> {
        let Some(given) = parts.headers.get(HEADER) else { return Ok(None) };
        let given = given.as_bytes();
        if given.is_empty() || given.len() > MAX_KEY || !given.iter().all(u8::is_ascii_graphic) {
            let detail = "the header Idempotency-Key: 1 to 255 visible ASCII characters";
            return Err(Problem::new(Code::InvalidRequest, detail)
                .remedy("use a new UUID for each thing that is to be done once"));
        }
        let target = parts.uri.path_and_query().map_or("", |p| p.as_str());
        Ok(Some(Self {
            name: digest(&[peer.name.as_bytes(), given]),
            request: digest(&[parts.method.as_str().as_bytes(), target.as_bytes(), body]),
        }))
    }

    fn record(&self) -> Vec<u8> {
        format!("/idempotency/key/{}", self.name).into_bytes()
    }
}

/// Of texts that cannot run into each other.
fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn slot(number: u64) -> Vec<u8> {
    format!("/idempotency/ring/{:04}", number % MAX_KEPT).into_bytes()
}

/// What was answered to the request before, within the last day.
///
/// # Errors
/// `idempotency-key-reused`: the key came with another request.
pub(crate) async fn kept<T: DeserializeOwned>(
    shell: &Shell,
    key: &Key,
) -> Result<Option<T>, Problem> {
    let entry = shell.read(vec![key.record()]).await?.into_iter().next().flatten();
    let Some(kept) = parse::<Kept>(entry.as_ref())?.filter(|kept| kept.fresh(now_ms())) else {
        return Ok(None);
    };
    if kept.request != key.request {
        let detail = "this Idempotency-Key was used for another request";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail)
            .remedy("use a new key for a new request; repeat the old one exactly"));
    }
    let garbled =
        |e: serde_json::Error| Problem::new(Code::Internal, format!("a kept answer: {e}"));
    serde_json::from_value(kept.answer).map(Some).map_err(garbled)
}

/// Keeps an answer in the transaction that makes it true, in place of the oldest.
pub(crate) async fn keep(
    shell: &Shell,
    key: &Key,
    answer: Value,
    transaction: &mut Transaction,
) -> Result<(), Problem> {
    let entries = shell.read(vec![key.record(), NEXT.into()]).await?;
    let (before, next) = (entries.first().cloned().flatten(), entries.get(1).cloned().flatten());
    let number: u64 = parse(next.as_ref())?.unwrap_or(0);
    let oldest = shell.read(vec![slot(number)]).await?.into_iter().next().flatten();
    transaction.expect(key.record(), before.as_ref());
    transaction.expect(NEXT, next.as_ref());
    if let Some(oldest) = oldest {
        transaction.delete(oldest.value);
    }
    let kept = Kept { request: key.request.clone(), at_ms: now_ms(), answer };
    transaction.put(key.record(), text(&kept)?);
    transaction.put(slot(number), key.record());
    transaction.put(NEXT, text(&(number.wrapping_add(1)))?);
    Ok(())
}

impl Kept {
    fn fresh(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.at_ms) < LIFE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_digest_do_not_run_into_each_other() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    }

    #[test]
    fn the_ring_closes_and_answers_age() {
        assert_eq!(slot(0), slot(MAX_KEPT));
        assert_ne!(slot(0), slot(MAX_KEPT - 1));
        let kept = Kept { request: String::new(), at_ms: 0, answer: Value::Null };
        assert!(kept.fresh(LIFE - 1) && !kept.fresh(LIFE));
    }
}
