//! Processors and memory in groups.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// How the processors are grouped. The three numbers multiply to `vcpus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Sockets.
    #[serde(default = "one")]
    pub sockets: u32,
    /// Cores of a socket.
    #[serde(default = "one")]
    pub cores: u32,
    /// Threads of a core.
    #[serde(default = "one")]
    pub threads: u32,
}

fn one() -> u32 {
    1
}

/// A NUMA node of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumaNode {
    /// Its part of the VM's memory, a multiple of 2 MiB.
    pub memory: Bytes,
    /// Its processors.
    #[serde(default)]
    pub vcpus: CpuSet,
}

/// A set of processors, written `0-3,8`; kept as ranges, first and last inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(Vec<(u32, u32)>);

/// A text that is no set of processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a set of processors: write numbers from 0 to 254 and ranges, rising, such as \"0-3,8\""
)]
pub struct CpuSetError(String);

impl CpuSet {
    /// Its ranges, first and last inclusive, rising and apart.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Its processors.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
            if !digits(first) || !digits(last) {
                return None;
            }
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > 254 || ranges.last().is_some_and(|(_, end)| first <= *end) {
                return None;
            }
            ranges.push((first, last));
        }
        Some(Self(ranges))
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;
    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Self::parse(text).ok_or_else(|| CpuSetError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;
    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> String {
        set.to_string()
    }
}

impl JsonSchema for CpuSet {
    fn schema_name() -> Cow<'static, str> {
        "CpuSet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9, -]*$",
            "description": "Processors from 0 to 254, as numbers and ranges, such as 0-3,8.",
        })
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_ranges_that_rise() {
        for (text, count) in [("", 0), ("0", 1), ("0-3", 4), ("0-1, 4-5,9", 5), ("254", 1)] {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.iter().count(), count, "{text}");
            assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
        for bad in ["-", "1-", "-1", "3-1", "0,0", "2-4,4", "5,1", "255", "a", "0;1", "+1", "1,"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
        let long = "x".repeat(10_000);
        assert!(long.parse::<CpuSet>().unwrap_err().to_string().len() < 300);
    }
}
