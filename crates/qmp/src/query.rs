//! Typed forms of the commands that are used.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Client, QmpError};

/// Answer to `query-status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Run state: `running`, `paused`, `postmigrate`, …
    pub status: String,
}

/// Answer to `query-migrate`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Migration {
    /// `none`, `setup`, `active`, `device`, `completed`, `failed`, `cancelled`, …
    #[serde(default)]
    pub status: String,
    /// Why it could not begin now; empty: it could.
    #[serde(default, rename = "blocked-reasons")]
    pub blocked: Vec<String>,
    /// How much memory is where; absent before it begins.
    #[serde(default)]
    pub ram: Option<RamStats>,
    /// Why it failed, in QEMU's words.
    #[serde(default, rename = "error-desc")]
    pub error: Option<String>,
}

/// Memory counters of a migration, in bytes unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RamStats {
    /// Written to the stream.
    pub transferred: u64,
    /// Still to be sent in this pass.
    pub remaining: u64,
    /// All guest memory.
    pub total: u64,
    /// Synchronisations of the dirty log: passes begun.
    pub dirty_sync_count: u64,
    /// Pages dirtied a second.
    pub dirty_pages_rate: u64,
    /// Size of those pages.
    pub page_size: Option<u64>,
}

impl Client {
    /// The run state.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn status(&self) -> Result<Status, QmpError> {
        parse("query-status", self.execute("query-status", Value::Null).await?)
    }

    /// The migration's state.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn query_migrate(&self) -> Result<Migration, QmpError> {
        parse("query-migrate", self.execute("query-migrate", Value::Null).await?)
    }

    /// Switches migration capabilities.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn set_capabilities(&self, capabilities: &[(&str, bool)]) -> Result<(), QmpError> {
        let list: Vec<Value> = capabilities
            .iter()
            .map(|(name, on)| json!({ "capability": name, "state": on }))
            .collect();
        self.do_it("migrate-set-capabilities", json!({ "capabilities": list })).await
    }

    /// Sets migration parameters (an object).
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn set_parameters(&self, parameters: Value) -> Result<(), QmpError> {
        self.do_it("migrate-set-parameters", parameters).await
    }

    /// Begins to migrate to `uri`.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn migrate(&self, uri: &str) -> Result<(), QmpError> {
        self.do_it("migrate", json!({ "uri": uri })).await
    }

    /// Listens for a migration on `uri`.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn migrate_incoming(&self, uri: &str) -> Result<(), QmpError> {
        self.do_it("migrate-incoming", json!({ "uri": uri })).await
    }

    /// Cancels an outgoing migration.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn migrate_cancel(&self) -> Result<(), QmpError> {
        self.do_it("migrate_cancel", Value::Null).await
    }

    /// Stops the processors.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.do_it("stop", Value::Null).await
    }

    /// Presses the machine's power button; its guest decides what follows.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn system_powerdown(&self) -> Result<(), QmpError> {
        self.do_it("system_powerdown", Value::Null).await
    }

    /// Presses the machine's reset button.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn system_reset(&self) -> Result<(), QmpError> {
        self.do_it("system_reset", Value::Null).await
    }

    /// Lets the processors go on.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.do_it("cont", Value::Null).await
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn quit(&self) -> Result<(), QmpError> {
        self.do_it("quit", Value::Null).await
    }

    /// Tells the network where the VM's addresses are now: five times within a second.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn announce_self(&self) -> Result<(), QmpError> {
        let rounds = json!({ "initial": 50, "max": 550, "rounds": 5, "step": 100 });
        self.do_it("announce-self", rounds).await
    }

    /// A command of the human monitor; its output as it is.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn human(&self, line: &str) -> Result<String, QmpError> {
        let arguments = json!({ "command-line": line });
        let limit = Duration::from_secs(30);
        let value = self.execute_within("human-monitor-command", arguments, limit).await?;
        parse("human-monitor-command", value)
    }

    async fn do_it(&self, command: &str, arguments: Value) -> Result<(), QmpError> {
        self.execute(command, arguments).await.map(|_| ())
    }
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(
    command: &str,
    value: Value,
) -> Result<T, QmpError> {
    serde_json::from_value(value)
        .map_err(|e| QmpError::Unexpected { command: command.to_owned(), problem: e.to_string() })
}
