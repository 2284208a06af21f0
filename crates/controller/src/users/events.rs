//! The history as it grows.

use std::time::Duration;

use api::body::{EventsQuery, HistoryEvent, Nothing};
use api::events::{self, EventSender, Gone};
use axum::response::Response;
use store::Range;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use types::{Code, Problem, VmName};

use crate::call::Call;
use crate::keys;
use crate::shell::{Shell, parse_all};

/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a stream shows that it is alive.
const ALIVE: Duration = Duration::from_secs(15);
/// Events read at a time.
const PAGE: usize = 200;

/// One reader of the history.
struct Reader {
    shell: Shell,
    vm: Option<VmName>,
    cursor: u64,
    sender: EventSender,
    /// Its place among all readers.
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(
    call: Call<(), Nothing, HistoryEvent, EventsQuery>,
) -> Result<Response, Problem> {
    let cursor = cursor(&call).await?;
    let _place = call.shell.place_for_reader().ok_or_else(|| {
        Problem::new(Code::TooMany, "there are too many readers of events")
            .remedy("close another one, or ask /v1/history from time to time")
    })?;
    let (sender, response) = events::response(call.hangup(), PATIENCE);
    let Call { shell, query: EventsQuery { vm, .. }, .. } = call;
    let reader = Reader { shell, vm, cursor, sender, _place };
    tokio::spawn(async move {
        match reader.run().await {
            Ok(()) | Err(End::Gone) => {}
            Err(End::Failed(problem)) => tracing::warn!(%problem, "a stream of events ended"),
        }
    });
    Ok(response)
}

/// Where to begin: after what the reader has.
async fn cursor(call: &Call<(), Nothing, HistoryEvent, EventsQuery>) -> Result<u64, Problem> {
    let wrong = || {
        let detail = "the header Last-Event-ID: must be the id of an event, a number";
        Problem::new(Code::InvalidRequest, detail)
    };
    let last = call.header("last-event-id").map(|t| t.parse::<u64>().map_err(|_| wrong()));
    let (oldest, newest) = call.shell.history_reach().await?;
    let Some(after) = last.transpose()?.or(call.query.after) else { return Ok(newest) };
    let unknown = |why: String| {
        Problem::new(Code::CursorUnknown, why)
            .remedy(format!("read /v1/history from its beginning, then follow after {newest}"))
    };
    if after > newest {
        return Err(unknown(format!("event {after} has not happened: the newest is {newest}")));
    }
    if after.saturating_add(1) < oldest {
        return Err(unknown(format!(
            "what followed event {after} is not kept: the oldest is {oldest}"
        )));
    }
    Ok(after)
}

/// Why a stream ends.
enum End {
    Gone,
    Failed(Problem),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Reader {
    async fn run(mut self) -> Result<(), End> {
        let mut newest = self.shell.newest();
        self.sender.alive().await?;
        loop {
            newest.mark_unchanged();
            if self.page().await? {
                continue;
            }
            tokio::select! {
                changed = timeout(ALIVE, newest.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => self.sender.alive().await?,
                },
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends what comes next; `false`: there is nothing yet.
    async fn page(&mut self) -> Result<bool, End> {
        let range = Range {
            prefix: keys::HISTORY.into(),
            after: Some(keys::history(self.cursor)),
            limit: PAGE,
        };
        let page: Vec<HistoryEvent> =
            parse_all(&self.shell.range(range).await.map_err(End::Failed)?).map_err(End::Failed)?;
        for event in &page {
            if event.seq != self.cursor + 1 {
                // Forgotten meanwhile; who asks again is told so.
                return Err(End::Gone);
            }
            self.cursor = event.seq;
            if self.vm.is_none() || event.vm == self.vm {
                self.sender.event(event).await?;
            }
        }
        Ok(!page.is_empty())
    }
}
