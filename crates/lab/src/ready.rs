//! Waiting until the controller answers and has heard every agent.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::{Client, ClientConfig};

use crate::state::Places;
use crate::{LabError, Plan, logs};

const PAUSE: Duration = Duration::from_millis(100);

/// Waits for at most `patience`; the error shows the log of what is missing.
pub(crate) fn wait(places: &Places, plan: Plan, patience: Duration) -> Result<(), LabError> {
    // On a thread of its own, because the caller may be a runtime's.
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| runtime()?.block_on(poll(places, plan, patience))).join()
    });
    waited.unwrap_or_else(|_| {
        let source = std::io::Error::other("the waiting thread panicked");
        Err(LabError::System { action: "wait for the lab".into(), source })
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, LabError> {
    let system = |source| LabError::System { action: "start a runtime".into(), source };
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)
}

/// Who was not seen working, and why.
struct Missing {
    what: String,
    log: PathBuf,
}

async fn poll(places: &Places, plan: Plan, patience: Duration) -> Result<(), LabError> {
    let tls = places.tls();
    let config = ClientConfig {
        controller: plan.controller_url(),
        ca: tls.join("ca.pem"),
        cert: tls.join("admin.pem"),
        key: tls.join("admin.key"),
    };
    let client = Client::new(config).map_err(|e| LabError::Certificates(e.to_string()))?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = tokio::time::timeout(left.max(PAUSE), look(&client, places, plan)).await;
        let missing = match asked {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(_) => Missing {
                what: format!("the controller does not answer{}", filter_hint(plan)),
                log: places.log("controller"),
            },
        };
        if Instant::now() >= deadline {
            return Err(LabError::NotReady {
                seconds: patience.as_secs(),
                missing: missing.what,
                log: logs::tail(&missing.log),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(client: &Client, places: &Places, plan: Plan) -> Option<Missing> {
    let views = match client.hosts().await {
        Ok(views) => views,
        Err(e) => {
            let why = e.to_string();
            // What refuses is reached; what is silent may be filtered.
            let hint = if why.contains("refused") { String::new() } else { filter_hint(plan) };
            let what = format!("the controller is not reached: {why}{hint}");
            return Some(Missing { what, log: places.log("controller") });
        }
    };
    let up = |host| views.iter().any(|view| view.up && view.facts.host == host);
    plan.hosts().map(|(_, host)| host).find(|host| !up(host.clone())).map(|host| Missing {
        what: format!("the controller has not heard the agent of {host}"),
        log: places.log(host.as_str()),
    })
}

fn filter_hint(plan: Plan) -> String {
    format!(
        " (a packet filter of this machine must let {} through on {})",
        plan.network(),
        plan.outside_link()
    )
}
