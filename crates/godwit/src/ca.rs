//! `godwit ca`: certificates of the fleet.

use std::path::{Path, PathBuf};

use api::certs::{self, CertError, Files, Party};
use clap::Subcommand;
use serde::Serialize;
use types::HostId;

use crate::failure::{FAILED, Failure, REFUSED, USAGE};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the CA, and certificates of the controller, an administrator and hosts.
    #[command(
        after_help = "Example:\n  godwit ca init --dir /etc/godwit/ca --host host-a --host host-b"
    )]
    Init {
        /// Directory for the files; made when it is missing.
        #[arg(long)]
        dir: PathBuf,
        /// A host that gets a certificate; may be repeated.
        #[arg(long, value_name = "NAME", num_args = 1..)]
        host: Vec<HostId>,
        /// The administrator's name.
        #[arg(long, value_name = "NAME", default_value = "admin")]
        admin: String,
    },
    /// Make certificates of further hosts and administrators.
    #[command(after_help = "Example:\n  godwit ca issue --dir /etc/godwit/ca --host host-c")]
    Issue {
        /// Directory of the CA.
        #[arg(long)]
        dir: PathBuf,
        /// A host that gets a certificate; may be repeated.
        #[arg(long, value_name = "NAME", num_args = 1..)]
        host: Vec<HostId>,
        /// An administrator who gets a certificate; may be repeated.
        #[arg(long, value_name = "NAME", required_unless_present = "host")]
        admin: Vec<String>,
    },
    /// Make certificates anew, valid for a year, for the keys that are there.
    #[command(
        after_help = "Example:\n  godwit ca renew --dir /etc/godwit/ca --controller --admin admin"
    )]
    Renew(Renew),
}

/// Certificates to be made anew.
#[derive(Debug, clap::Args)]
pub(crate) struct Renew {
    /// Directory of the CA.
    #[arg(long)]
    dir: PathBuf,
    /// The controller.
    #[arg(long, required_unless_present_any = ["host", "admin"])]
    controller: bool,
    /// A host; may be repeated.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    host: Vec<HostId>,
    /// An administrator; may be repeated.
    #[arg(long, value_name = "NAME")]
    admin: Vec<String>,
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let hosts = |host: Vec<HostId>| host.into_iter().map(Party::Host);
    let mut made = Vec::new();
    match command {
        Command::Init { dir, host, admin } => {
            made.push(Made::of(certs::create_ca(&dir)?));
            let others = [Party::Controller, Party::Admin(admin)].into_iter().chain(hosts(host));
            issue(&dir, others, &mut made)?;
        }
        Command::Issue { dir, host, admin } => {
            let admins = admin.into_iter().map(Party::Admin);
            issue(&dir, hosts(host).chain(admins), &mut made)?;
        }
        Command::Renew(Renew { dir, controller, host, admin }) => {
            let controller = controller.then_some(Party::Controller).into_iter();
            let admins = admin.into_iter().map(Party::Admin);
            for party in controller.chain(hosts(host)).chain(admins) {
                made.push(Made::of(certs::renew(&dir, &party)?));
            }
        }
    }
    output.result(&made, |made| {
        made.iter().map(|m| format!("{}\n{}\n", m.cert.display(), m.key.display())).collect()
    })
}

/// Files that were made.
#[derive(Debug, Serialize)]
struct Made {
    cert: PathBuf,
    key: PathBuf,
}

impl Made {
    fn of(Files { cert, key }: Files) -> Self {
        Self { cert, key }
    }
}

fn issue(
    dir: &Path,
    parties: impl Iterator<Item = Party>,
    made: &mut Vec<Made>,
) -> Result<(), Failure> {
    for party in parties {
        made.push(Made::of(certs::issue(dir, &party)?));
    }
    Ok(())
}

impl From<CertError> for Failure {
    fn from(error: CertError) -> Self {
        let message = error.to_string();
        match error {
            CertError::Exists(_) => Self::new(REFUSED, message)
                .help("use another directory, or `godwit ca issue` to add to a CA"),
            CertError::Name { .. } => Self::new(USAGE, message),
            _ => Self::new(FAILED, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn a_ca_is_made_once_and_added_to() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ca");
        let output = Output::new(Format::Json, true);
        let init = || Command::Init {
            dir: dir.clone(),
            host: vec!["host-a".parse().unwrap()],
            admin: "root".to_owned(),
        };
        run(init(), &output).unwrap();
        for name in ["ca", "controller", "host-a", "root"] {
            assert!(dir.join(format!("{name}.pem")).is_file(), "{name}");
            assert!(dir.join(format!("{name}.key")).is_file(), "{name}");
        }
        let again = run(init(), &output).unwrap_err();
        assert_eq!(again.exit, REFUSED);
        assert!(again.message.contains("ca.key"), "{}", again.message);
        let more = Command::Issue {
            dir: dir.clone(),
            host: vec!["host-b".parse().unwrap()],
            admin: vec![],
        };
        run(more, &output).unwrap();
        assert!(dir.join("host-b.key").is_file());
        let (cert, key) = (dir.join("host-b.pem"), dir.join("host-b.key"));
        let before = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
        let renew = Command::Renew(Renew {
            dir: dir.clone(),
            controller: true,
            host: vec!["host-b".parse().unwrap()],
            admin: vec!["root".to_owned()],
        });
        run(renew, &output).unwrap();
        assert_ne!(std::fs::read(&cert).unwrap(), before.0);
        assert_eq!(std::fs::read(&key).unwrap(), before.1);
    }
}
