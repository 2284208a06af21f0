//! What all hosts of a set can offer.

use std::collections::BTreeMap;
use std::fmt;

use types::HostId;

use super::{Features, HostCpu, Level, Model, models};

/// KVM switches it on in every named model, unasked.
pub(super) const ADDED_BY_KVM: &str = "x2apic";
/// KVM takes these from every named model unless they are asked for by name.
pub(super) const TAKEN_BY_KVM: &[&str] = &["acpi", "monitor", "svm"];

/// The features that every host of a set can offer, and how to ask QEMU for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The hosts' vendor; `None` if they have several. Between vendors a running
    /// guest sees the features kept, but not the same errata and timings.
    pub vendor: Option<String>,
    /// The named model that comes nearest; `None` if no host knows any.
    pub model: Option<&'static Model>,
    /// To add to the model.
    pub require: Features,
    /// To take from the model.
    pub disable: Features,
    /// What the guest sees: the model's features plus `require` minus `disable`.
    pub features: Features,
    /// The psABI level it reaches.
    pub level: Option<Level>,
    /// What each host has and the baseline has not; hosts that lose nothing are
    /// not listed.
    pub dropped: BTreeMap<HostId, Features>,
    /// Properties that are on and not known, by host; they are not in the baseline.
    pub unknown: BTreeMap<HostId, Vec<String>>,
}

impl Baseline {
    /// The baseline of a set of hosts; `None` of no hosts. Hosts in any order and
    /// any number of times give the same.
    #[must_use]
    pub fn of(hosts: &[HostCpu]) -> Option<Self> {
        let (first, rest) = hosts.split_first()?;
        let features = rest.iter().fold(first.features, |f, h| f.and(&h.features));
        let vendor = rest.iter().all(|h| h.vendor == first.vendor).then(|| first.vendor.clone());
        let model = nearest(&features, vendor.as_deref(), hosts);
        let own = model.map(|m| m.features).unwrap_or_default();
        let mut given = own;
        given.insert(ADDED_BY_KVM);
        let mut disable = given.without(&features);
        if model.is_none() {
            disable = Features::default();
        }
        let dropped = hosts.iter().map(|h| (h.host.clone(), h.features.without(&features)));
        let unknown = hosts.iter().filter(|h| !h.unknown.is_empty());
        Some(Self {
            vendor,
            model,
            require: features.without(&own),
            disable,
            level: Level::of(&features),
            dropped: dropped.filter(|(_, lost)| !lost.is_empty()).collect(),
            unknown: unknown
                .map(|h| (h.host.clone(), h.unknown.iter().cloned().collect()))
                .collect(),
            features,
        })
    }
}

/// The model that differs from the features in the fewest places; of equals the
/// one of which less has to be taken away, then the first by name. Hosts of
/// several vendors get a model that names none.
fn nearest(features: &Features, vendor: Option<&str>, hosts: &[HostCpu]) -> Option<&'static Model> {
    let of_vendor = |m: &&Model| m.is_generic() || vendor == Some(m.vendor.as_str());
    let known = |m: &&Model| hosts.iter().all(|h| h.knows(m));
    models().iter().filter(of_vendor).filter(known).min_by_key(|m| {
        (m.features.distance(features), m.features.without(features).len(), m.name.as_str())
    })
}

/// As QEMU's `-cpu` and a VM's `cpu_model` take it: `Haswell-noTSX,+ss,-svm`.
impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model.map_or("base", |m| m.name.as_str()))?;
        let taken: Features = TAKEN_BY_KVM.iter().copied().collect();
        for name in self.require.or(&self.features.and(&taken)).iter() {
            write!(f, ",+{name}")?;
        }
        for name in self.disable.iter() {
            write!(f, ",-{name}")?;
        }
        Ok(())
    }
}
