//! Whether a VM can run on a host.

use super::baseline::{ADDED_BY_KVM, TAKEN_BY_KVM};
use super::features::is_known;
use super::host;
use super::{Features, HostCpu, models};

/// The CPU a VM asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmCpu {
    /// A named model with changes: exactly these features.
    Named {
        /// The model's name, as written.
        model: String,
        /// What the guest sees.
        features: Features,
    },
    /// `host` or `max`: all that the host has, whatever that is.
    Host,
}

/// A `cpu_model` that cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// No model of that name is known.
    Model(String),
    /// A feature that is not known is asked for.
    Feature(String),
    /// Not `+feature`, `-feature` or `feature=on|off`.
    Setting(String),
}

/// Why a VM cannot run on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacking {
    /// Features that the VM sees and the host cannot offer.
    Features(Features),
    /// The host's QEMU does not know the model.
    Model(String),
    /// The VM sees all of its host's processor, and the other host's differs in
    /// these; a migration would change the processor under the guest.
    Differs(Features),
}

impl VmCpu {
    /// Reads what QEMU's `-cpu` takes, as it acts under KVM (`kvm`) or emulated.
    /// Settings that are no features (`vendor=…`, `phys-bits=…`) are passed over.
    ///
    /// # Errors
    /// The model is not known, or a part cannot be read.
    pub fn parse(text: &str, kvm: bool) -> Result<Self, Unreadable> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        if name == "host" || name == "max" {
            return Ok(Self::Host);
        }
        let mut features = match models().iter().find(|m| m.name == name || m.versioned == name) {
            Some(model) => model.features,
            None if name == "base" => Features::default(),
            None => return Err(Unreadable::Model(name.to_owned())),
        };
        if kvm {
            TAKEN_BY_KVM.iter().for_each(|taken| features.remove(taken));
            features.insert(ADDED_BY_KVM);
        } else {
            features.remove("vme");
        }
        // As in QEMU, signs win over `=on`, and the later over the earlier.
        let (signs, rest): (Vec<&str>, Vec<&str>) = parts.partition(|p| p.starts_with(['+', '-']));
        for part in rest.into_iter().chain(signs) {
            set(&mut features, part)?;
        }
        Ok(Self::Named { model: name.to_owned(), features })
    }

    /// Whether the VM can run on `host`.
    ///
    /// # Errors
    /// What the host lacks.
    pub fn runs_on(&self, host: &HostCpu) -> Result<(), Lacking> {
        let Self::Named { model, features } = self else { return Ok(()) };
        let known = models().iter().find(|m| m.name == *model || m.versioned == *model);
        if known.is_some_and(|m| !host.knows(m)) {
            return Err(Lacking::Model(model.clone()));
        }
        let missing = features.without(&host.features);
        if missing.is_empty() { Ok(()) } else { Err(Lacking::Features(missing)) }
    }

    /// Whether the VM, running on `from`, can go on running on `to`.
    ///
    /// # Errors
    /// What `to` lacks or has too much.
    pub fn moves(&self, from: &HostCpu, to: &HostCpu) -> Result<(), Lacking> {
        if *self != Self::Host {
            return self.runs_on(to);
        }
        let missing = from.features.without(&to.features);
        if !missing.is_empty() {
            return Err(Lacking::Features(missing));
        }
        let more = to.features.without(&from.features);
        if more.is_empty() { Ok(()) } else { Err(Lacking::Differs(more)) }
    }
}

/// Applies one part of a `-cpu` text behind the model.
fn set(features: &mut Features, part: &str) -> Result<(), Unreadable> {
    let unreadable = || Unreadable::Setting(part.to_owned());
    let (name, on) = match part.split_at_checked(1) {
        Some(("+", name)) => (name, true),
        Some(("-", name)) => (name, false),
        _ => match part.split_once('=') {
            Some((name, "on")) => (name, true),
            Some((name, "off")) => (name, false),
            Some((name, value)) if !name.is_empty() && !value.is_empty() => return Ok(()),
            _ => return Err(unreadable()),
        },
    };
    if name.is_empty() {
        return Err(unreadable());
    }
    match (is_known(name), on) {
        (true, true) => {
            features.insert(name);
        }
        (true, false) => features.remove(name),
        // A setting of QEMU's; or a feature of a later QEMU, which nobody can judge.
        (false, false) => {}
        (false, true) if host::is_setting(name) => {}
        (false, true) => return Err(Unreadable::Feature(name.to_owned())),
    }
    Ok(())
}
