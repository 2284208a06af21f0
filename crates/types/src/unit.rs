//! Quantities with their units. JSON carries plain numbers (bytes, bits a
//! second); files that people write may use texts such as `"2GiB"` or `"1gbit"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The page size of the migration stream on x86-64: target pages are 4 KiB even
/// where the host backs guest memory with huge pages.
pub const PAGE_SIZE: u64 = 4096;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {what}: write a whole number and a unit, such as {example}")]
pub struct UnitError {
    given: String,
    what: &'static str,
    example: &'static str,
}

/// An amount of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A rate in bits a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Bytes {
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl Rate {
    /// The rate in bytes a second.
    pub fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }
}

fn parse(s: &str, units: &[(&str, u64)]) -> Option<u64> {
    let s = s.trim();
    let split = s.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(s.len());
    let number: u64 = s[..split].parse().ok()?;
    let unit = s[split..].trim();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let units = [
            ("", 1),
            ("B", 1),
            ("K", 1 << 10),
            ("KiB", 1 << 10),
            ("M", 1 << 20),
            ("MiB", 1 << 20),
            ("G", 1 << 30),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        parse(s, &units).map(Self).ok_or_else(|| UnitError {
            given: s.chars().take(40).collect(),
            what: "an amount of memory",
            example: "\"512MiB\" or \"2GiB\"",
        })
    }
}

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let units =
            [("", 1), ("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
        parse(s, &units).map(Self).ok_or_else(|| UnitError {
            given: s.chars().take(40).collect(),
            what: "a rate",
            example: "\"500mbit\" or \"1gbit\"",
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(d)? {
            NumberOrText::Number(n) => Ok(Self(n)),
            NumberOrText::Text(t) => t.parse().map_err(de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(d)? {
            NumberOrText::Number(n) => Ok(Self(n)),
            NumberOrText::Text(t) => t.parse().map_err(de::Error::custom),
        }
    }
}

/// A quantity in JSON: a number when it is told, a number or a text with its unit
/// when it is read.
macro_rules! quantity_schema {
    ($name:ident, $unit:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let kinds = match generator.contract().is_serialize() {
                    true => serde_json::json!("integer"),
                    false => serde_json::json!(["integer", "string"]),
                };
                json_schema!({ "type": kinds, "minimum": 0, "description": $unit })
            }
        }
    };
}

quantity_schema!(Bytes, "An amount of bytes; texts such as \"2GiB\" are read too.");
quantity_schema!(Rate, "A rate in bits a second; texts such as \"1gbit\" are read too.");

impl fmt::Display for Bytes {
    /// Rounded to one decimal, for people; never parsed back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        let text = match self.0 {
            0..1024 => format!("{} B", self.0),
            1024..1_048_576 => format!("{:.1} KiB", n / 1024.0),
            1_048_576..1_073_741_824 => format!("{:.1} MiB", n / 1_048_576.0),
            _ => format!("{:.1} GiB", n / 1_073_741_824.0),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        let text = match self.0 {
            0..1_000 => format!("{} bit/s", self.0),
            1_000..1_000_000 => format!("{:.1} kbit/s", n / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} Mbit/s", n / 1e6),
            _ => format!("{:.2} Gbit/s", n / 1e9),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_parse_with_their_units() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("2GiB", 2 << 30), ("1 MiB", 1 << 20), ("3g", 3 << 30)]
        {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for bad in [
            "",
            "GiB",
            "-1",
            "1.5GiB",
            "2 parsecs",
            "99999999999999999999",
            "18446744073709551615GiB",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        assert_eq!("1gbit".parse::<Rate>().unwrap().bytes_per_second(), 125_000_000);
        assert!("1 GB/s".parse::<Rate>().is_err());
    }
}
