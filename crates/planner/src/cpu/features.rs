//! Sets of CPU features under one spelling each.

use std::fmt;

use super::model::known;

/// Room for so many features; the table's test says when it is used up.
pub(super) const MOST: usize = 512;

/// Names that QEMU accepts for a feature besides its own.
const ALIASES: &[(&str, &str)] = &[
    ("ffxsr", "fxsr-opt"),
    ("i64", "lm"),
    ("pclmuldq", "pclmulqdq"),
    ("sse3", "pni"),
    ("sse4-1", "sse4.1"),
    ("sse4-2", "sse4.2"),
    ("xd", "nx"),
];

/// QEMU's own name of a feature: dashes for underscores, aliases resolved.
pub(super) fn canonical(name: &str) -> String {
    let name = name.replace('_', "-");
    match ALIASES.iter().find(|(alias, _)| *alias == name) {
        Some((_, own)) => (*own).to_owned(),
        None => name,
    }
}

/// A set of the CPU features that are known by name, as bits in the order of
/// their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Features([u64; MOST / 64]);

impl Features {
    /// Whether `name` (in any spelling that QEMU accepts) is in the set.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        place(name).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// What both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    /// What either has.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    /// What this set has and the other has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// Whether the other set has all of this one.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    /// How many features stand in only one of the two sets.
    #[must_use]
    pub fn distance(&self, other: &Self) -> usize {
        self.with(other, |a, b| a ^ b).len()
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        let bits = self.0;
        let names = known().iter().enumerate().take(MOST);
        names.filter(move |(i, _)| bits[i / 64] & (1 << (i % 64)) != 0).map(|(_, name)| *name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// Adds a feature; `false` if none of that name is known.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        let place = place(name);
        if let Some((word, bit)) = place {
            self.0[word] |= bit;
        }
        place.is_some()
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((word, bit)) = place(name) {
            self.0[word] &= !bit;
        }
    }

    fn with(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|i| op(self.0[i], other.0[i])))
    }
}

/// Whether a feature of that name is known, in any spelling.
pub(super) fn is_known(name: &str) -> bool {
    place(name).is_some()
}

/// Word and bit of a feature.
fn place(name: &str) -> Option<(usize, u64)> {
    let name = canonical(name);
    let at = known().binary_search(&name.as_str()).ok().filter(|at| *at < MOST)?;
    Some((at / 64, 1 << (at % 64)))
}

/// Names that are not known are passed over.
impl<'a> FromIterator<&'a str> for Features {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            set.insert(name);
        }
        set
    }
}

/// `avx, avx2, bmi1`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
