//! The stream of events: nothing is skipped, nothing told twice, whoever reads it and
//! however often they begin again.
#![allow(clippy::unwrap_used)]

mod rig;

use std::pin::Pin;
use std::time::Duration;

use api::body::{HistoryEvent, VmView};
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use rig::{Rig, code};
use serde_json::{Value, json};
use store::{Change, Store, Transaction};
use tokio::time::timeout;
use types::Code;

const SOON: Duration = Duration::from_secs(20);

/// Asks for the stream; `last` is what a reader that was cut off had read.
async fn ask(rig: &Rig, query: &str, last: Option<&str>) -> Response {
    let mut request = Request::builder().uri(format!("/v1/events{query}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    rig.send(&rig.admin, request.body(Body::empty()).unwrap()).await
}

struct Reader {
    body: Body,
    text: String,
}

impl Reader {
    async fn new(rig: &Rig, query: &str, last: Option<&str>) -> Self {
        let response = ask(rig, query, last).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; its `id` is its `seq`.
    async fn next(&mut self) -> HistoryEvent {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let (id, data) = event.split_once('\n').unwrap();
                let data: HistoryEvent =
                    serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(id, format!("id: {}", data.seq));
                return data;
            }
            let frame = timeout(SOON, self.frame()).await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    /// What comes next as it is; `None`: the stream has ended.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await?;
        Some(frame.unwrap().into_data().unwrap().to_vec())
    }
}

/// Two lines of history each.
async fn happens(rig: &Rig, times: usize) {
    for n in 0..times {
        let name = format!("vm{n}-{}", uuid::Uuid::new_v4());
        rig.admin::<VmView>("POST", "/v1/vms", json!({ "name": name, "memory": 2 << 20 })).await;
        rig.admin::<Value>("DELETE", &format!("/v1/vms/{name}"), Value::Null).await;
    }
}

async fn seqs(reader: &mut Reader, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        seqs.push(reader.next().await.seq);
    }
    seqs
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_where_it_was() {
    let rig = Rig::new().await;
    happens(&rig, 2).await;
    let mut fresh = Reader::new(&rig, "", None).await;
    let mut first = Reader::new(&rig, "?after=0", None).await;
    assert_eq!(seqs(&mut first, 4).await, [1, 2, 3, 4]);
    drop(first);
    happens(&rig, 2).await;
    // The header, which says what was read last, goes before the query.
    let mut again = Reader::new(&rig, "?after=1", Some("3")).await;
    assert_eq!(seqs(&mut again, 5).await, [4, 5, 6, 7, 8]);
    assert_eq!(seqs(&mut fresh, 4).await, [5, 6, 7, 8], "only what happened since");
    happens(&rig, 1).await;
    assert_eq!(seqs(&mut again, 2).await, [9, 10]);
    // Those of one VM keep their numbers.
    rig.admin::<VmView>("POST", "/v1/vms", rig::spec("web01")).await;
    happens(&rig, 1).await;
    rig.admin::<Value>("DELETE", "/v1/vms/web01", Value::Null).await;
    let mut one = Reader::new(&rig, "?after=0&vm=web01", None).await;
    assert_eq!(seqs(&mut one, 2).await, [11, 14]);
    // And they outlive the controller.
    drop((fresh, again, one));
    let rig = rig.restarted().await;
    let mut late = Reader::new(&rig, "", Some("12")).await;
    assert_eq!(seqs(&mut late, 2).await, [13, 14]);
}

#[tokio::test]
async fn a_cursor_that_is_not_of_this_history_is_told_where_to_go_on() {
    let rig = Rig::new().await;
    happens(&rig, 3).await;
    // What is old may be forgotten.
    let mut forget = Transaction::default();
    forget.changes = (1..=4u64)
        .map(|seq| Change::Delete { key: format!("/history/{seq:020}").into_bytes() })
        .collect();
    rig.store.commit(forget).await.unwrap();
    for (query, last, expected) in [
        ("?after=7", None, Some(Code::CursorUnknown)),
        ("?after=18446744073709551615", None, Some(Code::CursorUnknown)),
        ("?after=0", None, Some(Code::CursorUnknown)),
        ("?after=3", None, Some(Code::CursorUnknown)),
        ("", Some("3"), Some(Code::CursorUnknown)),
        ("", Some("x"), Some(Code::InvalidRequest)),
        ("", Some(""), Some(Code::InvalidRequest)),
        ("?after=4", None, None),
        ("?after=6", None, None),
    ] {
        let response = ask(&rig, query, last).await;
        let status = response.status();
        let Some(expected) = expected else {
            assert_eq!(status, StatusCode::OK, "{query}");
            continue;
        };
        let answer = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        assert_eq!(code(status, &answer), expected, "{query} {last:?}");
        if expected == Code::CursorUnknown {
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("after 6"), "where to go on: {text}");
        }
    }
    let mut whole = Reader::new(&rig, "?after=4", None).await;
    assert_eq!(seqs(&mut whole, 2).await, [5, 6]);
}

#[tokio::test]
async fn there_are_only_so_many_readers_and_one_that_leaves_makes_room() {
    let rig = Rig::new().await;
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(Reader::new(&rig, "", None).await);
    }
    let response = ask(&rig, "", None).await;
    let status = response.status();
    let answer = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert_eq!(code(status, &answer), Code::TooMany);
    readers.pop();
    let room = async {
        while ask(&rig, "", None).await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, room).await.unwrap();
}
