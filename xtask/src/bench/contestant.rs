//! Who takes part: Godwit, and every way in which QEMU moves a VM's memory by itself.

use serde::Serialize;
use serde_json::{Value, json};

use super::options::Setting;

/// A way to move a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Contestant {
    /// Godwit.
    Godwit,
    /// QEMU's pre-copy over one connection.
    Precopy,
    /// QEMU's multifd.
    Multifd,
    /// The same, compressed with zstd.
    MultifdZstd,
    /// The same, over TLS with X.509 certificates on both sides and AES-GCM.
    MultifdTls,
    /// QEMU's pre-copy, with differences to what was sent before.
    Xbzrle,
}

impl Contestant {
    /// All of them, Godwit first.
    pub(super) const ALL: [Self; 6] = [
        Self::Godwit,
        Self::Precopy,
        Self::Multifd,
        Self::MultifdZstd,
        Self::MultifdTls,
        Self::Xbzrle,
    ];

    /// Its name, as on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Godwit => "godwit",
            Self::Precopy => "precopy",
            Self::Multifd => "multifd",
            Self::MultifdZstd => "multifd-zstd",
            Self::MultifdTls => "multifd-tls",
            Self::Xbzrle => "xbzrle",
        }
    }

    /// Whether QEMU's connections are TLS.
    pub(super) fn tls(self) -> bool {
        self == Self::MultifdTls
    }

    fn multifd(self) -> bool {
        matches!(self, Self::Multifd | Self::MultifdZstd | Self::MultifdTls)
    }

    /// QEMU's capabilities. All that any contestant uses are named, since a VM
    /// that arrived keeps those that it came with.
    pub(super) fn capabilities(self) -> [(&'static str, bool); 2] {
        [("multifd", self.multifd()), ("xbzrle", self == Self::Xbzrle)]
    }

    /// QEMU's parameters, but for TLS. As for capabilities, all are named.
    pub(super) fn parameters(self, setting: &Setting) -> Value {
        let compression = if self == Self::MultifdZstd { "zstd" } else { "none" };
        // Half of the guest, so that no working set here is too large for it.
        let cache = (setting.memory_bytes.0 / 2 + 1).next_power_of_two();
        let mut parameters = json!({
            "max-bandwidth": 0,
            "multifd-channels": setting.channels,
            "multifd-compression": compression,
        });
        if self == Self::Xbzrle {
            parameters["xbzrle-cache-size"] = json!(cache);
        }
        if let Some(budget) = setting.blackout_budget_ms {
            parameters["downtime-limit"] = json!(budget);
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line_and_of_the_json() {
        use clap::ValueEnum;
        for contestant in Contestant::ALL {
            let named = contestant.to_possible_value().unwrap();
            assert_eq!(named.get_name(), contestant.name());
            assert_eq!(json!(contestant), contestant.name());
        }
        assert_eq!(Contestant::ALL, Contestant::value_variants());
    }

    #[test]
    fn each_ways_own_setting_is_made_and_no_others() {
        let setting = Setting::usual();
        let zstd = Contestant::MultifdZstd.parameters(&setting);
        assert_eq!(zstd["multifd-compression"], "zstd");
        assert_eq!(zstd["max-bandwidth"], 0);
        assert!(zstd.get("xbzrle-cache-size").is_none() && zstd.get("downtime-limit").is_none());
        let xbzrle = Contestant::Xbzrle.parameters(&setting);
        assert_eq!(xbzrle["xbzrle-cache-size"], 1u64 << 30);
        assert_eq!(Contestant::Xbzrle.capabilities(), [("multifd", false), ("xbzrle", true)]);
        assert_eq!(Contestant::MultifdTls.capabilities(), [("multifd", true), ("xbzrle", false)]);
    }
}
