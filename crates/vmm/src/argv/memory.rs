//! Processors and memory, and which belong together.

use serde_json::json;

use super::{Args, text};
use crate::{InstanceRecord, VmmError};

/// A backend for each RAM block, and the processors.
pub(super) fn add(args: &mut Args, record: &InstanceRecord) -> Result<(), VmmError> {
    let spec = &record.spec;
    for row in record.blocks() {
        args.json(
            "-object",
            &json!({
                "qom-type": "memory-backend-file",
                "id": row.block,
                "size": row.length,
                "mem-path": text(&row.file)?,
                "share": true,
            }),
        );
    }
    args.option("-m", format!("{}M", spec.memory.0 >> 20));
    args.option("-smp", processors(record));
    for (i, (node, row)) in spec.numa.iter().zip(record.blocks()).enumerate() {
        let mut options = format!("node,nodeid={i},memdev={}", row.block);
        for (first, last) in node.vcpus.ranges() {
            options += &format!(",cpus={first}-{last}");
        }
        args.option("-numa", options);
    }
    Ok(())
}

/// The machine's memory backend, where it is one for everything.
pub(super) fn only_block(record: &InstanceRecord) -> Option<String> {
    match record.blocks().as_slice() {
        [row] if record.spec.numa.is_empty() => Some(row.block.clone()),
        _ => None,
    }
}

fn processors(record: &InstanceRecord) -> String {
    let spec = &record.spec;
    match spec.topology {
        None => spec.vcpus.to_string(),
        Some(t) => {
            format!("{},sockets={},cores={},threads={}", spec.vcpus, t.sockets, t.cores, t.threads)
        }
    }
}
