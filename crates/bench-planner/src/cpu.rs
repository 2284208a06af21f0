//! CPU baselines: QEMU's own words about real hosts, and what libvirt publishes as
//! the baseline of pairs of them.
//!
//! A published baseline names its two hosts only roughly (`EPYC+Rome`), so the pair
//! is looked for among the hosts that fit the names. libvirt's models differ from
//! QEMU's in a few features ([`NOT_IN_LIBVIRT`]); as sets of features both say the
//! same.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use planner::cpu::{Baseline, HostCpu, models};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Args, data};

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "cpu";

/// Features that QEMU's model has and libvirt's model of the same name has not.
const NOT_IN_LIBVIRT: &[(&str, &str)] = &[("EPYC", "topoext")];

#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// Published baselines.
    published: usize,
    /// Those of which ours has the same features and the same model.
    equal: usize,
    /// Pairs of hosts over which the properties were looked at.
    pairs: usize,
    /// Pairs of which a property does not hold.
    broken: usize,
    baselines: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    hosts: [String; 2],
    /// As `-cpu` takes it.
    cpu: String,
    require: Vec<&'static str>,
    disable: Vec<&'static str>,
    /// All that a guest sees.
    features: Vec<&'static str>,
    level: Option<String>,
    /// Features by which the published baseline differs.
    differing: Vec<String>,
    /// The published model.
    model: String,
    same_model: bool,
    same_features: bool,
    /// By host: what it has and the baseline has not.
    dropped: Map<String, Value>,
}

/// A published baseline.
struct Published {
    model: String,
    require: BTreeSet<String>,
    disable: BTreeSet<String>,
}

/// Compares all published baselines.
///
/// # Errors
/// A file is malformed, or no two hosts fit a baseline's name.
pub(crate) fn run(args: &Args) -> Result<Option<Section>> {
    if !args.section(NAME, std::iter::empty()) {
        return Ok(None);
    }
    let folder = args.data.join(NAME);
    let mut hosts = Vec::new();
    for file in data::list(&folder.join("hosts"))? {
        let name = file.file_stem().and_then(|n| n.to_str()).context("no name")?;
        hosts.push(host(name, &data::read(&file)?).with_context(|| format!("host {name}"))?);
    }
    let mut section =
        Section { published: 0, equal: 0, pairs: 0, broken: 0, baselines: Vec::new() };
    for file in data::list(&folder.join("baselines"))? {
        let stem = file.file_stem().and_then(|n| n.to_str()).context("no name")?;
        let name = stem.rsplit_once("baseline-").map_or(stem, |(_, name)| name);
        let text = String::from_utf8(data::read(&file)?)?;
        let row = compare(name, &published(&text)?, &hosts)
            .with_context(|| format!("baseline {name}"))?;
        section.published += 1;
        section.equal += usize::from(row.same_features && row.same_model);
        eprintln!(
            "{:<30} {} {}",
            row.name,
            if row.same_features && row.same_model { "equal    " } else { "DIFFERENT" },
            row.cpu
        );
        section.baselines.push(row);
    }
    for a in &hosts {
        for b in &hosts {
            section.pairs += 1;
            section.broken += usize::from(!holds(a, b, &hosts));
        }
    }
    eprintln!(
        "cpu: {} of {} published baselines equal; properties broken in {} of {} pairs",
        section.equal, section.published, section.broken, section.pairs
    );
    Ok(Some(section))
}

/// Reads QEMU's answer to `query-cpu-model-expansion`, the first value in the file.
fn host(name: &str, bytes: &[u8]) -> Result<HostCpu> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let answer = values.next().context("the file is empty")??;
    let properties = answer.pointer("/return/model/props").and_then(Value::as_object);
    let properties = properties.context("no return.model.props")?;
    let vendor = properties.get("vendor").and_then(Value::as_str).context("no vendor")?;
    let on = properties.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_bool()?)));
    let name = name.to_lowercase().replace(['_', '.', ' '], "-");
    Ok(HostCpu::read(name.parse()?, vendor, on))
}

/// The lines of libvirt's `<cpu>` that matter.
fn published(text: &str) -> Result<Published> {
    let mut baseline =
        Published { model: String::new(), require: BTreeSet::new(), disable: BTreeSet::new() };
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("<model") {
            let inner = rest.split_once('>').and_then(|(_, r)| r.strip_suffix("</model>"));
            baseline.model = inner.context("a <model> that is not one line")?.to_owned();
        } else if line.starts_with("<feature") {
            let value = |key: &str| {
                let (_, rest) = line.split_once(&format!("{key}='"))?;
                rest.split_once('\'').map(|(value, _)| value)
            };
            let name = value("name").context("a <feature> without a name")?;
            if name.starts_with("vmx-") {
                continue;
            }
            match value("policy") {
                Some("require") => baseline.require.insert(spelled(name)),
                Some("disable") => baseline.disable.insert(spelled(name)),
                other => anyhow::bail!("feature {name} has the policy {other:?}"),
            };
        }
    }
    ensure!(!baseline.model.is_empty(), "no <model>");
    Ok(baseline)
}

/// QEMU's spelling of libvirt's names.
fn spelled(name: &str) -> String {
    match name.replace('_', "-").as_str() {
        "pclmuldq" => "pclmulqdq".to_owned(),
        "sse3" => "pni".to_owned(),
        other => other.to_owned(),
    }
}

/// The pair of hosts that fits the name and comes nearest, compared.
fn compare(name: &str, published: &Published, hosts: &[HostCpu]) -> Result<Row> {
    let (first, second) = name.split_once('+').context("the name is not A+B")?;
    let expected = expected(published)?;
    let mut best: Option<(Vec<String>, [&HostCpu; 2], Baseline)> = None;
    for a in hosts.iter().filter(|h| fits(h, first)) {
        for b in hosts.iter().filter(|h| fits(h, second) && h.host != a.host) {
            let Some(ours) = Baseline::of(&[a.clone(), b.clone()]) else { continue };
            let features: BTreeSet<String> = ours.features.iter().map(str::to_owned).collect();
            let off: Vec<String> = features.symmetric_difference(&expected).cloned().collect();
            if best.as_ref().is_none_or(|(least, ..)| off.len() < least.len()) {
                best = Some((off, [a, b], ours));
            }
        }
    }
    let (off, [a, b], ours) = best.context("no two hosts fit the name")?;
    let dropped = ours.dropped.iter().map(|(host, lost)| {
        let names = lost.iter().map(Value::from).collect();
        (host.to_string(), Value::Array(names))
    });
    Ok(Row {
        name: name.to_owned(),
        hosts: [a.host.to_string(), b.host.to_string()],
        cpu: ours.to_string(),
        require: ours.require.iter().collect(),
        disable: ours.disable.iter().collect(),
        features: ours.features.iter().collect(),
        level: ours.level.map(|l| l.to_string()),
        model: published.model.clone(),
        same_model: ours.model.is_some_and(|m| m.name == published.model),
        same_features: off.is_empty(),
        differing: off,
        dropped: dropped.collect(),
    })
}

/// Model plus required minus disabled, with libvirt's understanding of the model.
fn expected(published: &Published) -> Result<BTreeSet<String>> {
    let model = models().iter().find(|m| m.name == published.model);
    let model = model.with_context(|| format!("no model {}", published.model))?;
    let family = |name: &str| model.name == name || model.name.starts_with(&format!("{name}-"));
    let kept = |f: &&str| !NOT_IN_LIBVIRT.iter().any(|(m, feature)| f == feature && family(m));
    let mut features: BTreeSet<String> =
        model.features.iter().filter(kept).map(str::to_owned).collect();
    features.extend(published.require.iter().cloned());
    Ok(features.into_iter().filter(|f| !published.disable.contains(f)).collect())
}

/// Whether a host can be meant by one half of a baseline's name: by its own name
/// or by that of the model that comes nearest to it.
fn fits(host: &HostCpu, half: &str) -> bool {
    let model = Baseline::of(std::slice::from_ref(host)).and_then(|b| b.model);
    host.host.as_str().contains(&half.to_lowercase())
        || model.is_some_and(|m| m.name.contains(half))
}

/// Subset, commutative, idempotent, monotone, exact.
fn holds(a: &HostCpu, b: &HostCpu, others: &[HostCpu]) -> bool {
    let of =
        |hosts: &[&HostCpu]| Baseline::of(&hosts.iter().map(|h| (*h).clone()).collect::<Vec<_>>());
    let (Some(both), Some(turned), Some(twice)) = (of(&[a, b]), of(&[b, a]), of(&[a, b, a, b]))
    else {
        return false;
    };
    let own = both.model.map(|m| m.features).unwrap_or_default();
    both == turned
        && both == twice
        && both.features.within(&a.features)
        && both.features.within(&b.features)
        && own.or(&both.require).without(&both.disable) == both.features
        && others
            .iter()
            .all(|c| of(&[a, b, c]).is_some_and(|three| three.features.within(&both.features)))
}
