//! CPU baselines: QEMU's own words about real hosts, and what libvirt publishes as
//! the baseline of pairs of them.
//!
//! A published baseline names its two hosts only roughly (`EPYC+Rome`), so the pair
//! is looked for among the hosts that fit the names, or among all if none do.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use planner::cpu::{Baseline, HostCpu, models};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Args, data};

/// The section's name, which is its folder's too.
pub(crate) const NAME: &str = "cpu";

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
    let all = || hosts.iter().flat_map(|a| hosts.iter().map(move |b| [a, b]));
    let pairs = || all().filter(|[a, b]| a.host != b.host);
    let named = |[a, b]: &[&HostCpu; 2]| fits(a, first) && fits(b, second);
    let any = !pairs().any(|pair| named(&pair));
    let mut best: Option<(Vec<String>, [&HostCpu; 2], Baseline)> = None;
    for [a, b] in pairs().filter(|pair| any || named(pair)) {
        let Some(ours) = Baseline::of(&[a.clone(), b.clone()]) else { continue };
        let features: BTreeSet<String> = ours.features.iter().map(str::to_owned).collect();
        let expected = expected(published, [a, b])?;
        let off: Vec<String> = features.symmetric_difference(&expected).cloned().collect();
        if best.as_ref().is_none_or(|(least, ..)| off.len() < least.len()) {
            best = Some((off, [a, b], ours));
        }
    }
    let (off, [a, b], ours) = best.context("there are no two hosts")?;
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

/// Model plus required minus disabled. A few of QEMU's models have features that
/// libvirt's of the same name have not (`topoext` in EPYC); that is so where a host
/// lacks one and the baseline, which both hosts can run, does not disable it.
fn expected(published: &Published, hosts: [&HostCpu; 2]) -> Result<BTreeSet<String>> {
    let model = models().iter().find(|m| m.name == published.model);
    let model = model.with_context(|| format!("no model {}", published.model))?;
    let offered = |f: &&str| hosts.iter().all(|h| h.features.has(f));
    let mut features: BTreeSet<String> =
        model.features.iter().filter(offered).map(str::to_owned).collect();
    features.extend(published.require.iter().cloned());
    Ok(features.into_iter().filter(|f| !published.disable.contains(f)).collect())
}

/// Whether a host can be meant by one half of a baseline's name: by its own name
/// or, part for part, by that of the model that comes nearest to it.
fn fits(host: &HostCpu, half: &str) -> bool {
    let model = Baseline::of(std::slice::from_ref(host)).and_then(|b| b.model);
    host.host.as_str().contains(&half.to_lowercase())
        || model.is_some_and(|m| half.split('-').all(|part| m.name.split('-').any(|p| p == part)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_baseline_is_read_and_differences_are_found() {
        let text = "<cpu mode='custom' match='exact'>\n\
            <model fallback='allow'>Haswell-noTSX</model>\n<vendor>Intel</vendor>\n\
            <feature policy='require' name='tsc_adjust'/>\n\
            <feature policy='require' name='vmx-ept'/>\n\
            <feature policy='disable' name='smep'/>\n</cpu>\n";
        let mut wanted = published(text).unwrap();
        assert_eq!(wanted.model, "Haswell-noTSX");
        assert!(wanted.require.contains("tsc-adjust") && wanted.require.len() == 1);
        let host = |name: &str, model: &str| {
            let model = models().iter().find(|m| m.name == model).unwrap();
            let on = model.features.iter().filter(|f| *f != "smep").map(|f| (f, true));
            let own = on.chain([("tsc-adjust", true)]);
            HostCpu::read(name.parse().unwrap(), &model.vendor, own)
        };
        let hosts = [host("a", "Haswell-noTSX"), host("b", "Skylake-Server")];
        let row = compare("Haswell+Skylake", &wanted, &hosts).unwrap();
        assert!(row.same_model && row.same_features, "{:?}", row.differing);
        wanted.require.clear();
        let row = compare("Haswell+Skylake", &wanted, &hosts).unwrap();
        assert_eq!(row.differing, ["tsc-adjust"]);
        wanted.disable.insert("avx2".to_owned());
        assert!(!compare("none+such", &wanted, &hosts).unwrap().same_features);
        for bad in ["", "<model>x\n", "<model>x</model>\n<feature policy='may' name='a'/>"] {
            assert!(published(bad).is_err(), "{bad}");
        }
    }
}
