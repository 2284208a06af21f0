//! Identifiers. Every one that a user, a file or a peer supplies is checked at
//! the border, so that no later code has to ask whether it is safe.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct IdError {
    what: &'static str,
    given: String,
    rule: &'static str,
}

impl IdError {
    fn new(what: &'static str, given: &str, rule: &'static str) -> Self {
        // A hostile name may be megabytes long; an error never is.
        let given = given.chars().take(80).collect();
        Self { what, given, rule }
    }
}

macro_rules! name {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal, $rule:literal, $pattern:literal,
     $check:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(s) { Ok(Self(s.to_owned())) } else { Err(IdError::new($what, s, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        text_schema!($name, $pattern, concat!($($doc),*, " ", $rule, "."));
    };
}

/// A text in JSON that keeps to a pattern.
macro_rules! text_schema {
    ($name:ident, $pattern:literal, $description:expr) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": $description.trim(),
                })
            }
        }
    };
}

/// Letters, digits and `extra`, beginning with a letter or digit, 1 to 63 long.
fn plain(s: &str, extra: &[u8]) -> bool {
    (1..=63).contains(&s.len())
        && s.as_bytes()[0].is_ascii_alphanumeric()
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

name!(
    /// A host's name.
    HostId, "host", "1 to 63 lower-case letters, digits and '-', beginning with a letter or digit",
    "^[a-z0-9][a-z0-9-]{0,62}$",
    |s| plain(s, b"-") && !s.bytes().any(|b| b.is_ascii_uppercase())
);
name!(
    /// A VM's name, unique in the fleet.
    VmName, "VM name", "1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    |s| plain(s, b"-_.")
);
name!(
    /// A storage pool's name; each host's configuration says where the pool is.
    PoolName, "pool", "1 to 63 letters, digits, '-' and '_', beginning with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
    |s| plain(s, b"-_")
);
name!(
    /// A file of a pool: one path component, never a path.
    FileName, "file", "1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    |s| plain(s, b"-_.")
);

name!(
    /// Whose a VM is: a person, a team or a customer.
    OwnerName, "owner", "1 to 63 letters, digits, '-', '_', '.' and '@', beginning with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$",
    |s| plain(s, b"-_.@")
);
name!(
    /// How much depends on a VM: `critical`, `secondary`, `noncritical` or a site's own word.
    Tier, "tier", "1 to 63 lower-case letters, digits and '-', beginning with a letter or digit",
    "^[a-z0-9][a-z0-9-]{0,62}$",
    |s| plain(s, b"-") && !s.bytes().any(|b| b.is_ascii_uppercase())
);

impl Default for Tier {
    fn default() -> Self {
        Self("secondary".to_owned())
    }
}

/// A VM's UUID: its identity.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct VmId(pub Uuid);

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VmId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Uuid::parse_str(s)
            .map(Self)
            .map_err(|_| IdError::new("UUID", s, "8-4-4-4-12 hexadecimal digits"))
    }
}

/// A unicast MAC address, written `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The six octets.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let bad = || {
            IdError::new(
                "MAC address",
                s,
                "six two-digit hexadecimal octets with ':', unicast and not zero",
            )
        };
        let mut octets = [0u8; 6];
        let mut parts = s.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(bad());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<MacAddr> for String {
    fn from(m: MacAddr) -> String {
        m.to_string()
    }
}

text_schema!(
    MacAddr,
    "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$",
    "A unicast MAC address, such as 52:54:00:12:34:56."
);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_border() {
        for good in ["web01", "a", "9x", "db-1"] {
            assert!(good.parse::<HostId>().is_ok(), "{good}");
            assert!(good.parse::<VmName>().is_ok(), "{good}");
        }
        let long = "x".repeat(10_000);
        for bad in ["", "-a", ".", "..", "a/b", "a,b", "a\nb", "a b", "ä", "a\0", long.as_str()] {
            assert!(bad.parse::<HostId>().is_err(), "{bad:.20}");
            assert!(bad.parse::<VmName>().is_err(), "{bad:.20}");
            assert!(bad.parse::<FileName>().is_err(), "{bad:.20}");
        }
        assert!("Web".parse::<HostId>().is_err());
        assert!(long.parse::<VmName>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn mac_addresses_are_unicast() {
        let mac: MacAddr = "52:54:00:AB:cd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "5:54:00:ab:cd:01",
            "+1:54:00:ab:cd:01",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    /// What every name is good for: a part of a path, of an argument of QEMU, of a URL.
    fn harmless(name: &str) -> bool {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        (1..=63).contains(&name.len()) && name.chars().all(good) && !name.starts_with(['-', '.'])
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_as_a_name_is_harmless_and_kept(text in "[a-zA-Z0-9._@/,\\n -]{0,70}|\\PC*") {
            fn kept<T: FromStr<Err = IdError> + fmt::Display>(text: &str) -> bool {
                match text.parse::<T>() {
                    Ok(name) => harmless(text) && name.to_string() == text,
                    Err(error) => error.to_string().len() < 1000,
                }
            }
            for kept in [kept::<HostId>, kept::<VmName>, kept::<PoolName>, kept::<FileName>,
                kept::<OwnerName>, kept::<Tier>] {
                proptest::prop_assert!(kept(&text));
            }
        }

        #[test]
        fn every_good_name_is_taken(name in "[a-z0-9][a-z0-9-]{0,62}") {
            proptest::prop_assert!(name.parse::<HostId>().is_ok() && name.parse::<VmName>().is_ok());
            proptest::prop_assert!(name.parse::<PoolName>().is_ok() && name.parse::<Tier>().is_ok());
        }

        #[test]
        fn addresses_are_read_as_they_are_written(octets in proptest::array::uniform6(0u8..)) {
            let mac = MacAddr(octets);
            let good = octets[0] & 1 == 0 && octets != [0; 6];
            proptest::prop_assert_eq!(mac.to_string().parse().ok(), good.then_some(mac));
        }
    }
}
