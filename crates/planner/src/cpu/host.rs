//! What a host's processor and its QEMU can offer.

use std::collections::BTreeSet;

use types::HostId;

use super::Features;
use super::features::canonical;

/// Properties of QEMU's CPU object that are settings, not features.
const SETTINGS: &[&str] = &[
    "check",
    "cpuid-0xb",
    "enforce",
    "fill-mtrr-mask",
    "full-cpuid-auto-level",
    "host-cache-info",
    "host-phys-bits",
    "hotpluggable",
    "hotplugged",
    "kvm",
    "l3-cache",
    "legacy-cache",
    "legacy-multi-node",
    "lmce",
    "migratable",
    "pmu",
    "realized",
    "start-powered-off",
    "tcg-cpuid",
    "vmware-cpuid-freq",
];
/// Prefixes of the same, and of what a hypervisor offers in software.
const SET_ASIDE: &[&str] = &["x-", "hv-", "xen-", "kvm-", "kvmclock", "vmx-"];

/// The processor of one host, as its QEMU can show it to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCpu {
    /// The host.
    pub host: HostId,
    /// `GenuineIntel`, `AuthenticAMD`, …
    pub vendor: String,
    /// What a guest can have.
    pub features: Features,
    /// Properties that are on and that this version of Godwit does not know;
    /// no baseline holds them.
    pub unknown: BTreeSet<String>,
    /// The models its QEMU knows by name; empty: not said, all are taken for known.
    pub models: BTreeSet<String>,
}

impl HostCpu {
    /// Reads the properties of QEMU's answer to `query-cpu-model-expansion` (type
    /// `full`, model `host`, or `max` where guests are emulated): names and
    /// whether they are on. Other properties are not to be passed.
    #[must_use]
    pub fn read<'a>(
        host: HostId,
        vendor: &str,
        properties: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Self {
        let (mut features, mut unknown) = (Features::default(), BTreeSet::new());
        for (name, _) in properties.into_iter().filter(|(_, on)| *on) {
            let name = canonical(name);
            if is_setting(&name) {
                continue;
            }
            if !features.insert(&name) {
                unknown.insert(name);
            }
        }
        Self { host, vendor: vendor.to_owned(), features, unknown, models: BTreeSet::new() }
    }

    /// Whether its QEMU knows a model by one of its names.
    #[must_use]
    pub fn knows(&self, model: &super::Model) -> bool {
        self.models.is_empty()
            || self.models.contains(&model.name)
            || self.models.contains(&model.versioned)
    }
}

/// Whether a property is a setting, or comes from the kernel and not from the
/// processor.
pub(super) fn is_setting(name: &str) -> bool {
    let name = canonical(name);
    SETTINGS.contains(&name.as_str()) || SET_ASIDE.iter().any(|p| name.starts_with(p))
}
