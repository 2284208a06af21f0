//! `godwit vm set`: changes a VM's spec.

use api::body::SpecPatch;
use serde_json::{Map, Value, json};
use types::{Bytes, OwnerName, Tier};

use super::One;
use crate::failure::Failure;
use crate::output::Output;

/// What to change.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    change: Change,
}

/// Labels, owner and tier change at any time, the rest while the VM is stopped.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// A label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Take a label away; may be repeated.
    #[arg(long, value_name = "KEY")]
    no_label: Vec<String>,
    /// Whose it is.
    #[arg(long, value_name = "NAME")]
    owner: Option<OwnerName>,
    /// It is nobody's.
    #[arg(long, conflicts_with = "owner")]
    no_owner: bool,
    /// How much depends on it.
    #[arg(long, value_name = "TIER")]
    tier: Option<Tier>,
    /// Virtual processors; the VM must be stopped.
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory, such as 4GiB; the VM must be stopped.
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// QEMU CPU model; the VM must be stopped.
    #[arg(long, value_name = "MODEL")]
    cpu_model: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let Args { one: One { vm, connect }, change } = args;
    let view = connect.client()?.set(&vm, &change.patch()).await?;
    output.one(&view, &view.spec.name, |view| format!("{} is as asked\n", view.spec.name))
}

impl Change {
    fn patch(self) -> SpecPatch {
        let mut patch = Map::new();
        let mut labels: Map<String, Value> =
            self.no_label.into_iter().map(|key| (key, Value::Null)).collect();
        labels.extend(self.label.into_iter().map(|(key, value)| (key, json!(value))));
        if !labels.is_empty() {
            patch.insert("labels".to_owned(), labels.into());
        }
        if self.no_owner {
            patch.insert("owner".to_owned(), Value::Null);
        }
        for (field, value) in [
            ("owner", self.owner.map(|owner| json!(owner))),
            ("tier", self.tier.map(|tier| json!(tier))),
            ("vcpus", self.vcpus.map(|n| json!(n))),
            ("memory", self.memory.map(|bytes| json!(bytes))),
            ("cpu_model", self.cpu_model.map(|model| json!(model))),
        ] {
            patch.extend(value.map(|value| (field.to_owned(), value)));
        }
        SpecPatch(patch.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn patch(line: &str) -> Result<Value, clap::Error> {
        let words = std::iter::once("set").chain(line.split_whitespace());
        Ok(json!(Line::try_parse_from(words)?.args.change.patch().0))
    }

    #[test]
    fn options_become_a_merge_patch() {
        let line = "web01 --label a=1=2 --label b= --no-label c --no-owner --memory 4GiB";
        let labels = json!({ "a": "1=2", "b": "", "c": null });
        let expected = json!({ "labels": labels, "owner": null, "memory": 4u64 << 30 });
        assert_eq!(patch(line).unwrap(), expected);
        let expected = json!({ "owner": "x", "tier": "critical", "vcpus": 2 });
        assert_eq!(patch("web01 --owner x --tier critical --vcpus 2").unwrap(), expected);
        for wrong in ["web01", "web01 --label a", "web01 --owner x --no-owner", "web01 --tier A"] {
            assert!(patch(wrong).is_err(), "{wrong}");
        }
    }
}
