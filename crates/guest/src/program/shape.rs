//! What machine the guest finds itself in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::disk;

/// As `key=value`: processors, sockets, NUMA nodes, network interfaces, disks, firmware, and
/// the instance id of a seed for cloud-init.
pub(super) fn describe() -> String {
    let firmware = if Path::new("/sys/firmware/efi").exists() { "uefi" } else { "bios" };
    let cpus = named("/sys/devices/system/cpu", "cpu");
    let socket = |cpu: &String| {
        let cpu = Path::new("/sys/devices/system/cpu").join(cpu);
        fs::read_to_string(cpu.join("topology/physical_package_id")).ok()
    };
    let sockets: BTreeSet<String> = cpus.iter().filter_map(socket).collect();
    format!(
        "cpus={} sockets={} nodes={} nics={} disks={} firmware={firmware} seed={}",
        cpus.len(),
        sockets.len(),
        named("/sys/devices/system/node", "node").len(),
        named("/sys/class/net", "eth").len(),
        disk::found().len(),
        seed().unwrap_or_else(|| "none".to_owned()),
    )
}

/// Entries of a folder that are a word and a number.
fn named(folder: &str, word: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let numbered = |name: &String| {
        let rest = name.strip_prefix(word).unwrap_or_default();
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
    };
    names.filter(numbered).collect()
}

/// The instance id on the volume for cloud-init, which the first program has mounted.
fn seed() -> Option<String> {
    let meta = fs::read_to_string("/seed/meta-data").ok()?;
    let id = meta.lines().find_map(|line| line.strip_prefix("instance-id: "))?;
    Some(id.trim().to_owned())
}
