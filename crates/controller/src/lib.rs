//! Inventory, ownership, attempts, history, HTTP.
//!
//! `core` decides; everything else reads the records a decision needs, writes
//! what it gives back in one transaction, and speaks HTTP.

mod agents;
mod backup;
mod call;
mod config;
mod console;
pub mod core;
mod enrollment;
mod error;
mod fleet;
mod idempotency;
mod intent;
mod keys;
mod plans;
mod records;
mod restored;
mod routes;
mod seen;
mod shell;
mod signer;
mod users;
mod when;

use std::sync::Arc;

use axum::Router;
use store::{EmbeddedStore, Store};
use tokio::net::TcpListener;

pub use backup::{RestoreError, Summary, restore};
pub use config::{ControllerConfig, Life};
pub use error::ControllerError;
use routes::Routes;
pub use signer::Signer;

/// Runs the controller until the future is dropped.
///
/// # Errors
/// Something of the configuration cannot be used.
pub async fn run(config: ControllerConfig) -> Result<(), ControllerError> {
    let tls = api::tls::controller_config(&config.identity())?;
    let signer = config.signer()?;
    let store = EmbeddedStore::open(&config.store).await?;
    let shell = shell::Shell::open(Arc::new(store), signer).await?;
    let failed = |source| ControllerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let renewing = shell.clone();
    let served = api::serve(listener, tls, served(shell), std::future::pending());
    tokio::select! {
        ended = served => ended.map_err(failed),
        () = signer::keep_own(renewing.signer(), config.cert, config.key) => Ok(()),
    }
}

/// The controller's HTTP contract upon a store. Every request must bear its
/// [`api::Peer`] as an extension, except for [`api::path::ENROLL`]; [`api::serve`]
/// sees to that.
///
/// # Errors
/// The store cannot be read, or is not a controller's.
pub async fn app(store: Arc<dyn Store>) -> Result<Router, ControllerError> {
    app_with(store, Signer::default()).await
}

/// The same, with something that makes certificates.
///
/// # Errors
/// As there.
pub async fn app_with(store: Arc<dyn Store>, signer: Signer) -> Result<Router, ControllerError> {
    Ok(served(shell::Shell::open(store, signer).await?))
}

fn served(shell: shell::Shell) -> Router {
    plans::carry_out(&shell);
    let (router, _) = routes().finish();
    router.with_state(shell)
}

/// The OpenAPI document of exactly what [`app`] serves.
pub fn openapi() -> Arc<serde_json::Value> {
    routes().finish().1
}

fn routes() -> Routes {
    let agents = agents::routes(Routes::default());
    console::routes(enrollment::routes(users::routes(agents)))
}
