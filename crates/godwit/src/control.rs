//! `godwit controller`: the program itself, and what keeps its store safe.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::body::{Backup, ControllerView};
use clap::Subcommand;
use controller::{ControllerConfig, RestoreError};
use serde_json::json;

use crate::connect::Connect;
use crate::failure::{FAILED, Failure, REFUSED, USAGE};
use crate::output::Output;
use crate::{files, program};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// The controller's configuration; runs it.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Only look whether the configuration is good.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the controller: its store, and what is in doubt after a restore.
    #[command(after_help = "Example:\n  godwit controller status")]
    Status {
        #[command(flatten)]
        connect: Connect,
    },
    /// Write everything in the store to a file, while the controller runs.
    #[command(after_help = "Example:\n  godwit controller backup godwit-backup.json")]
    Backup {
        /// The file; must not exist yet.
        file: PathBuf,
        #[command(flatten)]
        connect: Connect,
    },
    /// Make the store from a backup, while no controller runs.
    #[command(
        after_help = "Example:\n  godwit controller restore godwit-backup.json --config /etc/godwit/controller.toml"
    )]
    Restore {
        /// The backup.
        file: PathBuf,
        /// The controller's configuration, which names the store.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Put a store that is there aside.
        #[arg(long)]
        replace: bool,
    },
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    match (args.command, args.config) {
        (None, Some(config)) => program::controller::run(&config, args.check),
        (None, None) => Err(Failure::new(USAGE, "--config is not given")),
        (Some(Command::Status { connect }), _) => crate::wait(status(connect, output)),
        (Some(Command::Backup { file, connect }), _) => crate::wait(backup(&file, connect, output)),
        (Some(Command::Restore { file, config, replace }), _) => {
            crate::wait(restore(&file, &config, replace, output))
        }
    }
}

async fn status(connect: Connect, output: &Output) -> Result<(), Failure> {
    let view = connect.client()?.controller().await?;
    output.one(&view, "controller", shown)
}

fn shown(view: &ControllerView) -> String {
    let mut text = format!(
        "version      {}\nincarnation  {}\nrevision     {}\n",
        view.version, view.incarnation.0, view.revision
    );
    if let Some(restored) = &view.restored {
        text += &format!("restored     {}, from {}\n", restored.at, restored.taken);
    }
    for host in &view.awaited {
        text += &format!("awaited      {host}: it has not been heard since\n");
    }
    for doubt in &view.in_doubt {
        text += &format!("in doubt     {}: {}\n", doubt.vm, doubt.why);
    }
    text
}

async fn backup(file: &Path, connect: Connect, output: &Output) -> Result<(), Failure> {
    let failed =
        |e: &dyn std::fmt::Display| Failure::new(FAILED, format!("{}: {e}", file.display()));
    // First, so that nothing is asked for in vain. It holds secrets of migrations.
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|e| failed(&e))?;
    let written = async {
        let backup = connect.client()?.backup().await?;
        api::backup::check(&backup).map_err(|e| failed(&e))?;
        let text = serde_json::to_vec(&backup).map_err(|e| failed(&e))?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(|e| failed(&e))?;
        Ok(backup)
    };
    let backup: Backup = written.await.inspect_err(|_: &Failure| {
        // Half a backup is none.
        let _ = std::fs::remove_file(file);
    })?;
    let records = backup.entries.len();
    let result = json!({ "file": file, "taken": backup.taken, "records": records });
    output.one(&result, file.display(), |_| format!("{records} records of {}\n", backup.taken))
}

async fn restore(
    file: &Path,
    config: &Path,
    replace: bool,
    output: &Output,
) -> Result<(), Failure> {
    let config: ControllerConfig = files::config(config, |_| Ok(()))?;
    let backup: Backup = files::json(file, api::MAX_BACKUP as u64)?;
    let made = controller::restore(&config.store, &backup, replace).await.map_err(|error| {
        let message = error.to_string();
        match error {
            RestoreError::Exists(_) => Failure::new(REFUSED, message)
                .help("`--replace` puts it aside; what it knows and the backup does not is lost"),
            RestoreError::Backup(_) => Failure::new(USAGE, message),
            RestoreError::Store(_) => Failure::new(FAILED, message)
                .help("end the controller first: `systemctl stop godwit-controller`"),
            RestoreError::File { .. } => Failure::new(FAILED, message),
        }
    })?;
    output.message(
        "start the controller, then see `godwit controller status`: nothing is done to a VM \
         before its host has said that it has it",
    );
    let result = json!({
        "store": config.store,
        "records": made.records,
        "incarnation": made.incarnation,
        "aside": made.aside,
    });
    output.one(&result, config.store.display(), |_| {
        let aside =
            made.aside.as_ref().map(|aside| format!("; the former one is {}", aside.display()));
        format!("{} records{}\n", made.records, aside.unwrap_or_default())
    })
}
