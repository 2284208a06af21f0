//! `cargo xtask cpu-models`: writes the planner's table of CPU models from what a
//! QEMU says of its own.
//!
//! QEMU's emulator leaves `vme` out of every model, and KVM leaves nested
//! virtualisation out and puts `x2apic` and its own features in. So both are
//! asked, and a feature belongs to a model if either shows it, what KVM adds
//! aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Where the table stands.
const TABLE: &str = "crates/planner/src/cpu/models.tsv";
/// Stand for what is there, not for a processor.
const NO_MODELS: [&str; 3] = ["base", "host", "max"];
const LINE: usize = 90;

/// Which QEMU to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The QEMU; the newest at hand knows the most models.
    #[arg(long, default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// Folder of its firmware (`-L`); may be repeated.
    #[arg(long)]
    qemu_data: Vec<PathBuf>,
}

type Properties = BTreeMap<String, Value>;

/// Asks QEMU and writes the table.
///
/// # Errors
/// QEMU cannot be asked (it needs `/dev/kvm`), or the file cannot be written.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let mut emulated = Qemu::start(args, "tcg")?;
    let mut kvm = Qemu::start(args, "kvm").context("KVM must be there, see docs/planner.md")?;
    let known = known(args)?;
    let version = emulated.ask("query-version", &json!({}))?;
    let definitions = emulated.ask("query-cpu-definitions", &json!({}))?;
    let definitions = definitions.as_array().context("no list of models")?;
    let mut aliases = BTreeMap::new();
    for model in definitions {
        if let (Some(name), Some(of)) = (text(model, "name"), text(model, "alias-of")) {
            aliases.insert(of, name);
        }
    }
    let mut lines = BTreeSet::new();
    for name in definitions.iter().filter_map(|m| text(m, "name")) {
        if NO_MODELS.contains(&name) || aliases.values().any(|alias| *alias == name) {
            continue;
        }
        let (tcg, kvm) = (emulated.expand(name)?, kvm.expand(name)?);
        let vendor = tcg.get("vendor").and_then(Value::as_str).context("no vendor")?;
        let features: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .filter(|f| on(&tcg, f) || (on(&kvm, f) && *f != "x2apic"))
            .collect();
        let alias = aliases.get(name).copied().unwrap_or(name);
        lines.insert(format!("model\t{alias}\t{name}\t{vendor}\t{}\n", features.join(" ")));
    }
    ensure!(!lines.is_empty(), "QEMU names no models");
    let mut table = format!(
        "# CPU models as QEMU {}.{} defines them; written by `cargo xtask cpu-models`.\n\
         # model: name, versioned name, vendor, features. known: every feature with a name.\n",
        version["qemu"]["major"], version["qemu"]["minor"]
    );
    for line in folded(&known) {
        writeln!(table, "known\t{line}")?;
    }
    table.extend(lines);
    std::fs::write(root.join(TABLE), table).with_context(|| format!("cannot write {TABLE}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn on(properties: &Properties, feature: &str) -> bool {
    properties.get(feature) == Some(&Value::Bool(true))
}

/// The names of all CPU features, as `-cpu help` lists them; what comes from the
/// kernel (`kvm-*`, `vmx-*`) aside.
fn known(args: &Args) -> Result<BTreeSet<String>> {
    let help = command(args).args(["-cpu", "help"]).output().context("cannot start QEMU")?;
    let help = String::from_utf8_lossy(&help.stdout);
    let (_, flags) = help.split_once("Recognized CPUID flags:").context("no list of features")?;
    let from_kernel = |f: &&str| ["kvm-", "kvmclock", "vmx-"].iter().any(|p| f.starts_with(p));
    Ok(flags.split_whitespace().filter(|f| !from_kernel(f)).map(str::to_owned).collect())
}

/// Words in lines of bearable length.
fn folded(words: &BTreeSet<String>) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < LINE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

fn command(args: &Args) -> Command {
    let mut command = Command::new(&args.qemu);
    for folder in &args.qemu_data {
        command.arg("-L").arg(folder);
    }
    command
}

/// A QEMU without a machine, to be asked over its standard input and output.
struct Qemu {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Qemu {
    fn start(args: &Args, accel: &str) -> Result<Self> {
        let mut child = command(args)
            .args(["-machine", "none", "-nodefaults", "-nographic", "-S", "-qmp", "stdio"])
            .args(["-accel", accel])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        let to = child.stdin.take().context("no standard input")?;
        let from = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut qemu = Self { child, to, from };
        qemu.line().with_context(|| format!("QEMU with {accel} does not start"))?;
        qemu.ask("qmp_capabilities", &json!({}))?;
        Ok(qemu)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        writeln!(self.to, "{}", json!({ "execute": command, "arguments": arguments }))?;
        loop {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.from.read_line(&mut line)? > 0, "QEMU has ended");
        Ok(serde_json::from_str(&line)?)
    }

    fn expand(&mut self, name: &str) -> Result<Properties> {
        let arguments = json!({ "type": "full", "model": { "name": name } });
        let mut answer = self.ask("query-cpu-model-expansion", &arguments)?;
        Ok(serde_json::from_value(answer["model"]["props"].take())?)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_folded_and_nothing_is_lost() {
        let words: BTreeSet<String> = (0..50).map(|n| format!("feature-{n}")).collect();
        let lines = folded(&words);
        assert!(lines.len() > 1 && lines.iter().all(|l| l.len() <= LINE));
        let again: BTreeSet<String> =
            lines.iter().flat_map(|l| l.split(' ')).map(str::to_owned).collect();
        assert_eq!(again, words);
    }
}
