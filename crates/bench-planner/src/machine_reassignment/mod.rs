//! Machine reassignment: the ROADEF/EURO Challenge 2012.

mod checker;
mod model;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{Args, data};
use model::Model;

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "machine-reassignment";

#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// Instances whose result breaks a hard constraint.
    invalid: usize,
    instances: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    initial: i64,
}

/// Measures the instances that are asked for.
///
/// # Errors
/// A file is malformed.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    let folder = args.data.join(NAME);
    let names = instances(&folder)?;
    if !args.section(NAME, names.iter().cloned()) {
        return Ok(None);
    }
    let mut section = Section { invalid: 0, instances: Vec::new() };
    for name in names.iter().filter(|n| args.instance(NAME, n)) {
        let instance = Instance::read(&folder, name).with_context(|| format!("instance {name}"))?;
        let initial = checker::cost(&instance.model, &instance.initial, &instance.initial)?;
        eprintln!("{name:<6} initial {initial}");
        section.instances.push(Row { name: name.clone(), initial });
    }
    Ok(Some(section))
}

struct Instance {
    model: Model,
    initial: Vec<u32>,
}

impl Instance {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let file = |kind: &str| -> PathBuf {
            let packed = folder.join(format!("{kind}_{name}.txt.gz"));
            if packed.exists() { packed } else { folder.join(format!("{kind}_{name}.txt")) }
        };
        let model = Model::read(&data::read(&file("model"))?)?;
        let initial = model.read_assignment(&data::read(&file("assignment"))?)?;
        Ok(Self { model, initial })
    }
}

/// Names of the instances in a folder: `b_1` for `model_b_1.txt.gz`.
fn instances(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in data::list(folder)? {
        let Some(name) = file.file_name().and_then(|n| n.to_str()) else { continue };
        let stem = name.strip_suffix(".gz").unwrap_or(name);
        if let Some(name) = stem.strip_prefix("model_").and_then(|n| n.strip_suffix(".txt")) {
            names.push(name.to_owned());
        }
    }
    names.dedup();
    Ok(names)
}
