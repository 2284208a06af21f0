//! What the types alone cannot see: ranges, sums, and texts that will stand in
//! QEMU's arguments.

use std::collections::BTreeSet;

use super::{Firmware, SeedText, UefiSpec, VmSpec};
use crate::{Bytes, ImageRef};

/// What is wrong with a spec, with the field named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The field, as written in TOML.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

type Checked = Result<(), SpecError>;

/// Memory comes in steps of a huge page.
const STEP: u64 = 2 << 20;
/// Most NUMA nodes.
const NODES: usize = 16;
/// Largest seed: what a cloud of this size passes on to its VMs.
const SEED: usize = 32 << 10;
/// Most labels, and the longest text of one.
const LABELS: usize = 64;
const LABEL: usize = 253;

fn fail(field: impl Into<String>, problem: impl Into<String>) -> Checked {
    Err(SpecError { field: field.into(), problem: problem.into() })
}

impl VmSpec {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first field that is wrong, and why.
    pub fn check(&self) -> Checked {
        self.check_processors()?;
        self.check_memory()?;
        self.check_numa()?;
        self.check_texts()?;
        self.check_labels()?;
        self.check_seed()?;
        self.check_devices()
    }

    fn check_processors(&self) -> Checked {
        if !(1..=255).contains(&self.vcpus) {
            return fail("vcpus", "must be 1 to 255");
        }
        let Some(topology) = &self.topology else { return Ok(()) };
        let parts = [topology.sockets, topology.cores, topology.threads];
        if parts.iter().map(|n| u64::from(*n)).try_fold(1, u64::checked_mul)
            == Some(self.vcpus.into())
        {
            return Ok(());
        }
        let [sockets, cores, threads] = parts;
        fail(
            "topology",
            format!(
                "{sockets} sockets of {cores} cores of {threads} threads must be {} processors, \
                 as vcpus says",
                self.vcpus
            ),
        )
    }

    fn check_memory(&self) -> Checked {
        if !is_step(self.memory) {
            return fail("memory", "must be a multiple of 2 MiB, and at least that");
        }
        if self.memory.0 > 16 << 40 {
            return fail("memory", "must be at most 16 TiB");
        }
        Ok(())
    }

    fn check_numa(&self) -> Checked {
        if self.numa.is_empty() {
            return Ok(());
        }
        if self.numa.len() > NODES {
            return fail("numa", format!("at most {NODES} nodes"));
        }
        let (mut memory, mut seen) = (0u64, BTreeSet::new());
        for (i, node) in self.numa.iter().enumerate() {
            let field = |name: &str| format!("numa[{i}].{name}");
            if !is_step(node.memory) {
                return fail(field("memory"), "must be a multiple of 2 MiB, and at least that");
            }
            memory = memory.saturating_add(node.memory.0);
            for cpu in node.vcpus.iter() {
                if cpu >= self.vcpus {
                    let last = self.vcpus - 1;
                    return fail(field("vcpus"), format!("{cpu} is not there: 0 to {last} are"));
                }
                if !seen.insert(cpu) {
                    return fail(field("vcpus"), format!("{cpu} is in another node already"));
                }
            }
        }
        if memory != self.memory.0 {
            let (sum, all) = (Bytes(memory), self.memory);
            return fail("numa", format!("the nodes have {sum} together, and memory says {all}"));
        }
        match (0..self.vcpus).find(|cpu| !seen.contains(cpu)) {
            Some(cpu) => fail("numa", format!("processor {cpu} is in no node")),
            None => Ok(()),
        }
    }

    fn check_texts(&self) -> Checked {
        // CPU features are written with commas; '=' and letters complete them.
        let cpu_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.,+=".contains(&b);
        if self.cpu_model.is_empty()
            || self.cpu_model.len() > 512
            || !self.cpu_model.bytes().all(cpu_ok)
        {
            return fail(
                "cpu_model",
                "must be a QEMU CPU model, with features such as \"qemu64,+ssse3\"",
            );
        }
        let machine_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if self.machine.is_empty()
            || self.machine.len() > 64
            || !self.machine.bytes().all(machine_ok)
        {
            return fail(
                "machine",
                "must be a QEMU machine type, such as \"q35\" or \"pc-q35-7.2\"",
            );
        }
        if let Some(boot) = &self.boot
            && (boot.cmdline.len() > 2048 || boot.cmdline.chars().any(char::is_control))
        {
            return fail(
                "boot.cmdline",
                "must be at most 2,048 characters without control characters",
            );
        }
        Ok(())
    }

    fn check_labels(&self) -> Checked {
        if self.labels.len() > LABELS {
            return fail("labels", format!("at most {LABELS}"));
        }
        let key_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        for (key, value) in &self.labels {
            let shown: String = key.chars().take(80).collect();
            if key.is_empty() || key.len() > LABEL || !key.bytes().all(key_ok) {
                let rule = "1 to 253 letters, digits, '-', '_', '.' and '/'";
                return fail("labels", format!("{shown:?} is no label: {rule}"));
            }
            if value.len() > LABEL || value.chars().any(char::is_control) {
                let rule = "must be at most 253 bytes without control characters";
                return fail(format!("labels.{shown}"), rule);
            }
        }
        Ok(())
    }

    fn check_seed(&self) -> Checked {
        let Some(seed) = &self.cloud_init else { return Ok(()) };
        let mut size = 0;
        for (name, document) in seed.documents() {
            let field = format!("cloud_init.{name}");
            if matches!(document, SeedText::File(_)) {
                return fail(field, "a file can be named only in a TOML file; send its text");
            }
            let odd = |c: char| c.is_control() && !"\n\r\t".contains(c);
            if document.text().chars().any(odd) {
                return fail(field, "must be a text without control characters");
            }
            size += document.text().len();
            if size > SEED {
                return fail(field, "the documents may have at most 32 KiB together");
            }
        }
        Ok(())
    }

    fn check_devices(&self) -> Checked {
        if self.disks.len() > 16 {
            return fail("disks", "at most 16");
        }
        if self.nics.len() > 16 {
            return fail("nics", "at most 16");
        }
        for (i, disk) in self.disks.iter().enumerate() {
            if self.disks[..i].iter().any(|d| d.pool == disk.pool && d.file == disk.file) {
                return fail(format!("disks[{i}].file"), "the same image stands there twice");
            }
        }
        for (i, nic) in self.nics.iter().enumerate() {
            if nic.mac.is_some() && self.nics[..i].iter().any(|n| n.mac == nic.mac) {
                return fail(format!("nics[{i}].mac"), "the same address stands there twice");
            }
        }
        if let Firmware::Uefi(UefiSpec { vars: ImageRef { pool, file } }) = &self.firmware
            && self.disks.iter().any(|d| d.pool == *pool && d.file == *file)
        {
            return fail("firmware.uefi.vars", "is one of the disks: name a file of its own");
        }
        Ok(())
    }
}

fn is_step(bytes: Bytes) -> bool {
    bytes.0 >= STEP && bytes.0.is_multiple_of(STEP)
}
