//! Where the controller is and who asks: options, else the environment.

use std::path::PathBuf;

use api::{Client, ClientConfig};

use crate::failure::{Failure, USAGE};

/// Where these options stand in a help text.
const HEADING: &str = "Controller";

const HELP: &str = "set GODWIT_CONTROLLER, GODWIT_CA, GODWIT_CERT and GODWIT_KEY, \
                    or, for a lab: eval \"$(godwit lab env)\"";

/// How to reach the controller.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// The controller: https://ADDRESS:PORT.
    #[arg(long, env = "GODWIT_CONTROLLER", value_name = "URL", help_heading = HEADING)]
    controller: Option<String>,
    /// Trust anchor (PEM).
    #[arg(long, env = "GODWIT_CA", value_name = "FILE", help_heading = HEADING)]
    ca: Option<PathBuf>,
    /// Own certificate (PEM).
    #[arg(long, env = "GODWIT_CERT", value_name = "FILE", help_heading = HEADING)]
    cert: Option<PathBuf>,
    /// Own private key (PEM).
    #[arg(long, env = "GODWIT_KEY", value_name = "FILE", help_heading = HEADING)]
    key: Option<PathBuf>,
}

/// The client that the environment alone describes.
pub(crate) fn from_environment() -> Option<Client> {
    let file = |name| std::env::var_os(name).map(PathBuf::from);
    let controller = std::env::var("GODWIT_CONTROLLER").ok();
    let (ca, cert, key) = (file("GODWIT_CA"), file("GODWIT_CERT"), file("GODWIT_KEY"));
    Connect { controller, ca, cert, key }.client().ok()
}

impl Connect {
    /// The client; it connects with the first request.
    pub(crate) fn client(self) -> Result<Client, Failure> {
        let absent = |what| Failure::new(USAGE, format!("{what} is not given")).help(HELP);
        let config = ClientConfig {
            controller: self.controller.ok_or_else(|| absent("the controller's URL"))?,
            ca: self.ca.ok_or_else(|| absent("the trust anchor"))?,
            cert: self.cert.ok_or_else(|| absent("the own certificate"))?,
            key: self.key.ok_or_else(|| absent("the own private key"))?,
        };
        Client::new(config).map_err(|e| Failure::new(USAGE, e.to_string()).help(HELP))
    }
}
