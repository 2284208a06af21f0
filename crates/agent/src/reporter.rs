//! Posts the events of one side of an attempt, in order, until each is recorded.

use std::time::Duration;

use api::body::{AttemptEvent, AttemptPatch};
use api::client::{Client, ClientError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use types::{AttemptId, Side};

enum Order {
    Post(Box<AttemptEvent>),
    Flush(oneshot::Sender<()>),
}

/// A queue to the controller. What is posted is sent in order; a controller
/// that is away is waited for.
pub(crate) struct Reporter {
    side: Side,
    seq: u64,
    queue: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// An attempt has some ten events a side.
const QUEUE: usize = 256;

impl Reporter {
    /// Numbers begin after `seq`, the last one journalled; an agent that
    /// restarted leaves room for those it may have sent since.
    pub(crate) fn new(client: Client, attempt: AttemptId, side: Side, seq: u64) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        let task = tokio::spawn(deliver(client, attempt, orders));
        Self { side, seq, queue, task }
    }

    /// The last number used.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn post(&mut self, event: &str, detail: Option<String>, patch: AttemptPatch) {
        self.seq += 1;
        let detail = detail.map(|d| d.chars().take(2000).collect());
        let event =
            AttemptEvent { side: self.side, seq: self.seq, event: event.into(), detail, patch };
        tracing::info!(event = event.event, detail = event.detail, "attempt");
        if self.queue.try_send(Order::Post(Box::new(event))).is_err() {
            tracing::error!("too many events wait for the controller; one is lost");
        }
    }

    /// Returns when everything posted so far is recorded.
    pub(crate) fn flush(&self) -> impl Future<Output = ()> + Send + 'static {
        let queue = self.queue.clone();
        async move {
            let (done, wait) = oneshot::channel();
            if queue.send(Order::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn deliver(client: Client, attempt: AttemptId, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let event = match order {
            Order::Flush(done) => {
                let _ = done.send(());
                continue;
            }
            Order::Post(event) => event,
        };
        let mut pause = Duration::from_millis(100);
        loop {
            match client.event(attempt, &event).await {
                Ok(_) => break,
                // The record refuses it for good: asking again would not help.
                Err(ClientError::Problem(problem)) if problem.code.status() < 500 => {
                    tracing::warn!(event = event.event, %problem, "event not recorded");
                    break;
                }
                Err(error) => {
                    tracing::debug!(event = event.event, %error, "controller away");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
            }
        }
    }
}
