//! Named CPU models and what they consist of.

use std::sync::LazyLock;

use super::Features;

/// Written by `cargo xtask cpu-models`: what QEMU says of its own models.
const TABLE: &str = include_str!("models.tsv");

/// A named CPU model of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name; the older, unversioned one where there is one (`Haswell-noTSX`).
    pub name: String,
    /// Its versioned name (`Haswell-v2`).
    pub versioned: String,
    /// `GenuineIntel`, `AuthenticAMD`, …
    pub vendor: String,
    /// What it consists of, whatever executes the guest.
    pub features: Features,
}

impl Model {
    /// Whether it stands for no real processor, so that it is of no vendor.
    #[must_use]
    pub fn is_generic(&self) -> bool {
        ["qemu32", "qemu64", "kvm32", "kvm64"].contains(&self.name.as_str())
    }
}

/// All models, by name.
#[must_use]
pub fn models() -> &'static [Model] {
    static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
        let lines = TABLE.lines().filter(|l| !l.starts_with('#'));
        lines.filter_map(|l| l.strip_prefix("model\t").and_then(model)).collect()
    });
    &MODELS
}

/// Every feature that QEMU knows by name, sorted.
pub(super) fn known() -> &'static [&'static str] {
    static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let lists = TABLE.lines().filter_map(|l| l.strip_prefix("known\t"));
        let mut names: Vec<&str> = lists.flat_map(|l| l.split(' ')).collect();
        names.sort_unstable();
        names
    });
    &KNOWN
}

/// One line: name, versioned name, vendor, features; tabs between.
fn model(line: &str) -> Option<Model> {
    let mut fields = line.split('\t');
    let (name, versioned) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    let vendor = fields.next()?.to_owned();
    let features = fields.next()?.split(' ').collect();
    Some(Model { name, versioned, vendor, features })
}
