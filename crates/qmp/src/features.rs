//! What this QEMU can do, as it says itself; never concluded from a version.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::query::parse;
use crate::{Client, QmpError};

/// Features that matter to a migration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Capability `switchover-ack`: the switchover can be withheld.
    pub switchover_ack: bool,
    /// Capability `late-block-activate`: disks are taken at `cont`.
    pub late_block_activate: bool,
    /// Capability `return-path`.
    pub return_path: bool,
    /// Capability `events`: migrations tell of their states by themselves.
    pub events: bool,
    /// Capability `pause-before-switchover`.
    pub pause_before_switchover: bool,
    /// Argument `exit-on-error` of `migrate-incoming`.
    pub exit_on_error: bool,
    /// Parameter `avail-switchover-bandwidth`: QEMU can be told what the link carries.
    pub avail_switchover_bandwidth: bool,
}

#[derive(Deserialize)]
struct Capability {
    capability: String,
}

impl Features {
    /// Asks QEMU.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn probe(client: &Client) -> Result<Self, QmpError> {
        let command = "query-migrate-capabilities";
        let listed: Vec<Capability> = parse(command, client.execute(command, Value::Null).await?)?;
        let names: BTreeSet<String> = listed.into_iter().map(|c| c.capability).collect();
        let schema = client.execute("query-qmp-schema", Value::Null).await?;
        let has = |name: &str| names.contains(name);
        Ok(Self {
            switchover_ack: has("switchover-ack"),
            late_block_activate: has("late-block-activate"),
            return_path: has("return-path"),
            events: has("events"),
            pause_before_switchover: has("pause-before-switchover"),
            exit_on_error: has_argument(&schema, "migrate-incoming", "exit-on-error"),
            avail_switchover_bandwidth: has_argument(
                &schema,
                "migrate-set-parameters",
                "avail-switchover-bandwidth",
            ),
        })
    }
}

/// Whether a command of the schema takes an argument. A schema names types, not places.
fn has_argument(schema: &Value, command: &str, argument: &str) -> bool {
    let find = |name: &str| {
        schema.as_array()?.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name))
    };
    let members = find(command)
        .and_then(|c| c.get("arg-type")?.as_str())
        .and_then(find)
        .and_then(|t| t.get("members")?.as_array());
    members.is_some_and(|members| {
        members.iter().any(|m| m.get("name").and_then(Value::as_str) == Some(argument))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_found_through_their_type() {
        let schema = json!([
            { "name": "migrate-incoming", "meta-type": "command", "arg-type": "7" },
            { "name": "7", "meta-type": "object", "members": [{ "name": "exit-on-error" }] },
        ]);
        assert!(has_argument(&schema, "migrate-incoming", "exit-on-error"));
        assert!(!has_argument(&schema, "migrate-incoming", "mood"));
        assert!(!has_argument(&schema, "teleport", "exit-on-error"));
        assert!(!has_argument(&Value::Null, "migrate-incoming", "exit-on-error"));
    }
}
