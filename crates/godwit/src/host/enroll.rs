//! `godwit host add` and `godwit host enroll`: a machine becomes a host of the fleet.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::body::{EnrollRequest, NewCertificate, TokenRequest};
use api::certs::{self, Files, Token};
use api::{Client, ClientError};
use serde::Serialize;
use types::HostId;

use super::places::Places;
use super::skeleton;
use crate::connect::Connect;
use crate::failure::{FAILED, Failure, REFUSED, USAGE};
use crate::output::Output;
use crate::span;

/// How often a request is repeated whose answer was lost.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// `godwit host add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The host's name.
    host: HostId,
    /// How long the token can be used, such as 10m or 24h; at most a week.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse)]
    lifetime: Duration,
    #[command(flatten)]
    connect: Connect,
}

/// `godwit host enroll`.
#[derive(Debug, clap::Args)]
pub(crate) struct Enroll {
    /// The controller: https://ADDRESS:PORT.
    #[arg(long, env = "GODWIT_CONTROLLER", value_name = "URL")]
    controller: String,
    /// What `godwit host add` printed; `-` is standard input.
    #[arg(long, env = "GODWIT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: String,
    /// Directory for key and certificates [default: /etc/godwit, or for anyone but root
    /// ~/.config/godwit].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Replace the key and certificate that this machine has.
    #[arg(long)]
    replace: bool,
    /// Write an agent.toml beside them that fits this machine, if there is none.
    #[arg(long)]
    write_config: bool,
}

/// Makes a token.
pub(crate) async fn add(args: Add, output: &Output) -> Result<(), Failure> {
    let request = TokenRequest { host: args.host, lifetime_seconds: Some(args.lifetime.as_secs()) };
    let made = args.connect.client()?.new_token(&request).await?;
    output.message(&format!(
        "on {}, until {}: godwit host enroll --controller URL --token TOKEN",
        made.host, made.expires
    ));
    output.result(&made, |made| format!("{}\n", made.token))
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    host: HostId,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    config: Option<PathBuf>,
}

/// Makes a key here and has it certified.
pub(crate) async fn enroll(args: Enroll, output: &Output) -> Result<(), Failure> {
    let token = token(&args.token)?;
    let places = Places::of_this_user()?;
    let dir = args.dir.clone().unwrap_or_else(|| places.config.clone());
    let files = Files {
        cert: dir.join(format!("{}.pem", token.host)),
        key: dir.join(format!("{}.key", token.host)),
    };
    if !args.replace && (files.cert.exists() || files.key.exists()) {
        let message = format!("{} has a key and a certificate already", dir.display());
        return Err(Failure::new(REFUSED, message)
            .help("`--replace` replaces them; the agent reads new ones by itself"));
    }
    let key = certs::new_key()?;
    let new = certify(&args.controller, &token, &key).await?;
    // The token told which CA is the right one.
    if new.host != token.host || certs::fingerprint(&new.ca)? != token.fingerprint {
        return Err(Failure::new(FAILED, "the controller sent a certificate of somebody else"));
    }
    make_dir(&dir)?;
    let ca = dir.join("ca.pem");
    keep_ca(&ca, &new.ca)?;
    certs::replace(&files.key, key.as_bytes(), 0o600)?;
    certs::replace(&files.cert, new.certificate.as_bytes(), 0o644)?;
    let mut made = Made { host: token.host, ca, cert: files.cert, key: files.key, config: None };
    if args.write_config {
        let config = dir.join("agent.toml");
        let plan = skeleton::Plan {
            host: &made.host,
            controller: &args.controller,
            ca: &made.ca,
            cert: &made.cert,
            key: &made.key,
            places: &places,
        };
        skeleton::write(&config, &plan)?;
        made.config = Some(config);
    }
    output.result(&made, |made| {
        let config = made.config.as_ref().map(|c| format!("{}\n", c.display()));
        format!("{}\n{}\n{}", made.cert.display(), made.key.display(), config.unwrap_or_default())
    })
}

fn token(given: &str) -> Result<Token, Failure> {
    let text = if given == "-" {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(Failure::of)?;
        line
    } else {
        given.to_owned()
    };
    text.parse().map_err(|e: certs::TokenError| Failure::new(USAGE, e.to_string()))
}

/// Asks for the certificate. The very same request may be repeated.
async fn certify(url: &str, token: &Token, key: &str) -> Result<NewCertificate, Failure> {
    let client = Client::first_contact(url.to_owned(), &token.fingerprint)
        .map_err(|e| Failure::new(USAGE, e.to_string()))?;
    let request = EnrollRequest { token: token.to_string(), request: certs::request(key)? };
    let mut tries = 0;
    loop {
        tries += 1;
        match client.enroll(&request).await {
            Err(ClientError::Unreachable { .. }) if tries < TRIES => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(ClientError::Unreachable { controller, why }) => {
                let message = format!("the controller at {controller} does not answer: {why}");
                return Err(Failure::new(8, message).help(
                    "check that the controller runs there, and that the token is of its fleet",
                ));
            }
            answer => return Ok(answer?),
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Failure::new(FAILED, format!("{}: {e}", dir.display())))
}

/// Two fleets in one directory would be mixed up.
fn keep_ca(path: &Path, ca: &str) -> Result<(), Failure> {
    match fs::read_to_string(path) {
        Ok(there) if certs::fingerprint(&there).ok() == certs::fingerprint(ca).ok() => Ok(()),
        Ok(_) => {
            let message = format!("{} is the CA of another fleet", path.display());
            Err(Failure::new(REFUSED, message).help("use another directory: --dir"))
        }
        Err(_) => Ok(certs::replace(path, ca.as_bytes(), 0o644)?),
    }
}
