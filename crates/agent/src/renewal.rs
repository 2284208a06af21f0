//! Renews the host's certificate well before it ends. Whoever connects afterwards
//! (the agent itself, its carriers) reads the new file; nothing is started again.

use std::sync::Arc;
use std::time::Duration;

use api::body::CertificateRequest;
use api::certs::{self, Validity};
use api::client::Client;
use types::Code;

use crate::host::Host;

/// Looked again where the certificate cannot be read.
const UNREADABLE: Duration = Duration::from_secs(60);

/// Runs for ever; `lines` are the clients that use the certificate.
pub(crate) async fn run(host: Arc<Host>, lines: Vec<Client>) {
    loop {
        let again = match Validity::of(&host.config.cert) {
            Ok(validity) => {
                if validity.due(jiff::Timestamp::now().as_second()) {
                    attempt(&host, &lines, &validity).await;
                }
                validity.look_again()
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate's end is not known");
                UNREADABLE
            }
        };
        tokio::time::sleep(again).await;
    }
}

async fn attempt(host: &Host, lines: &[Client], validity: &Validity) {
    let end = validity.end();
    match renew(host).await {
        Ok(()) => {
            lines.iter().for_each(Client::reconnect);
            tracing::info!("the certificate is renewed");
        }
        Err(error) => tracing::warn!(error, end, "the certificate is not renewed yet"),
    }
}

async fn renew(host: &Host) -> Result<(), String> {
    let config = &host.config;
    let key = std::fs::read_to_string(&config.key)
        .map_err(|e| format!("{}: {e}", config.key.display()))?;
    let request = certs::request(&key).map_err(|e| e.to_string())?;
    let new = host.client.renew(&CertificateRequest { request }).await.map_err(|e| {
        let problem = e.problem();
        match (problem.code, problem.remedy) {
            (Code::NoAuthority, Some(remedy)) => format!("{}: {remedy}", problem.detail),
            _ => problem.detail,
        }
    })?;
    if new.host != config.host {
        return Err(format!("the controller sent the certificate of {}", new.host));
    }
    certs::replace(&config.cert, new.certificate.as_bytes(), 0o644).map_err(|e| e.to_string())
}
