//! Server-sent events: how the controller writes them and the client reads them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Hangup;
use crate::body::HistoryEvent;

/// Events that wait for a reader.
const WAITING: usize = 64;

/// The writing end of a response that goes on for ever.
#[derive(Debug)]
pub struct EventSender {
    frames: mpsc::Sender<Bytes>,
    hangup: Hangup,
    patience: Duration,
}

/// The reader is gone, or was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A response of events. A reader that takes nothing for `patience` is cut off,
/// which it will notice; no event is ever skipped.
pub fn response(hangup: Hangup, patience: Duration) -> (EventSender, Response) {
    let (frames, receiver) = mpsc::channel(WAITING);
    let mut response = Response::new(Body::new(Frames(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (EventSender { frames, hangup, patience }, response)
}

impl EventSender {
    /// Sends an event.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn event(&self, event: &HistoryEvent) -> Result<(), Gone> {
        let data = serde_json::to_string(event).map_err(|_| Gone)?;
        self.send(format!("id: {}\ndata: {data}\n\n", event.seq)).await
    }

    /// Sends a sign of life, which readers ignore.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn alive(&self) -> Result<(), Gone> {
        self.send(":\n\n".to_owned()).await
    }

    /// Returns when nobody reads any more.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        match timeout(self.patience, self.frames.send(text.into())).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_) => {
                self.hangup.cut();
                Err(Gone)
            }
        }
    }
}

struct Frames(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_does_not_read_gets_what_waits_and_its_end() {
        let (sender, response) = response(Hangup::default(), Duration::from_millis(50));
        for _ in 0..WAITING {
            assert_eq!(sender.alive().await, Ok(()));
        }
        assert_eq!(sender.alive().await, Err(Gone), "no more waits for anybody");
        drop(sender);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        assert_eq!(body, ":\n\n".repeat(WAITING));
    }
}
