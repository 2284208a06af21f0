//! Inventory, ownership, attempts, history, HTTP.
//!
//! `core` decides; everything else reads the records a decision needs, writes
//! what it gives back in one transaction, and speaks HTTP.

mod agents;
mod call;
mod config;
mod console;
pub mod core;
mod error;
mod fleet;
mod idempotency;
mod intent;
mod keys;
mod plans;
mod records;
mod routes;
mod seen;
mod shell;
mod users;
mod when;

use std::sync::Arc;

use api::tls::Identity;
use axum::Router;
use store::{EmbeddedStore, Store};
use tokio::net::TcpListener;

pub use config::ControllerConfig;
pub use error::ControllerError;
use routes::Routes;

/// Runs the controller until the future is dropped.
///
/// # Errors
/// Something of the configuration cannot be used.
pub async fn run(config: ControllerConfig) -> Result<(), ControllerError> {
    let identity = Identity { ca: config.ca, cert: config.cert, key: config.key };
    let tls = api::tls::server_config(&identity)?;
    let store = EmbeddedStore::open(&config.store).await?;
    let app = app(Arc::new(store)).await?;
    let failed = |source| ControllerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    api::serve(listener, tls, app, std::future::pending()).await.map_err(failed)
}

/// The controller's HTTP contract upon a store. Every request must bear its
/// [`api::Peer`] as an extension, as [`api::serve`] sees to.
///
/// # Errors
/// The store cannot be read, or is not a controller's.
pub async fn app(store: Arc<dyn Store>) -> Result<Router, ControllerError> {
    let shell = shell::Shell::open(store).await?;
    plans::carry_out(&shell);
    let (router, _) = routes().finish();
    Ok(router.with_state(shell))
}

/// The OpenAPI document of exactly what [`app`] serves.
pub fn openapi() -> Arc<serde_json::Value> {
    routes().finish().1
}

fn routes() -> Routes {
    console::routes(users::routes(agents::routes(Routes::default())))
}
