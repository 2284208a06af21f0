//! What is measured: the guest, the link, who takes part.

use std::str::FromStr;

use anyhow::{Result, ensure};
use guest::fill::Mix;
use guest::{Dirty, Fill, Roles};
use serde::Serialize;
use types::{Bytes, Rate};

use super::contestant::Contestant;
use crate::fleet::Parts;

const MIB: u64 = 1 << 20;
/// Milliseconds between two heartbeats of a benched guest: how finely a blackout is seen.
pub(super) const BEAT: u32 = 2;

/// Options of every bench. What is not given is as the bench has it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub(super) json: bool,
    /// Runs of each contestant (5; of `blackout` 300).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) runs: Option<u32>,
    /// Only these contestants; more than one with commas between them.
    #[arg(long, alias = "only", value_delimiter = ',', value_enum)]
    pub(super) contestants: Vec<Contestant>,
    /// Rate of each host's link, such as 1gbit; "none": as fast as it is.
    #[arg(long)]
    pub(super) link: Option<Link>,
    /// The guest's memory.
    #[arg(long)]
    pub(super) memory: Option<Bytes>,
    /// How much of it has content.
    #[arg(long, value_name = "SIZE")]
    pub(super) fill: Option<Bytes>,
    /// Shares of a hundred pages of content: zero, text-like, pointers and small
    /// numbers, random, copies of 256 pages.
    #[arg(long, value_name = "ZERO:TEXT:HEAP:RANDOM:SAME", value_parser = mix)]
    pub(super) content: Option<Mix>,
    /// How much memory is rewritten each second, pages counted whole.
    #[arg(long, value_name = "SIZE")]
    pub(super) dirty_rate: Option<Bytes>,
    /// The memory that is rewritten, in turn; it comes on top of the content.
    #[arg(long, value_name = "SIZE")]
    pub(super) dirty_set: Option<Bytes>,
    /// How much of a page changes when it is rewritten, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(super) dirty_share: Option<u32>,
    /// Longest a migration may take, in seconds; then it is cancelled.
    #[arg(long, value_name = "SECONDS")]
    pub(super) limit: Option<u32>,
    /// Longest pause that a migration may plan with: Godwit's budget, QEMU's downtime-limit.
    #[arg(long, value_name = "MS")]
    pub(super) blackout_budget: Option<u32>,
    /// Channels of QEMU's multifd.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(super) channels: u32,
    #[command(flatten)]
    pub(super) parts: Parts,
    /// Use the debug build.
    #[arg(long)]
    pub(super) debug: bool,
    /// Install missing tools without asking.
    #[arg(long)]
    pub(super) yes: bool,
}

/// A link's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Shaped to it.
    Shaped(Rate),
    /// As fast as it is.
    Free,
}

impl FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Free),
            rate => rate.parse().map(Self::Shaped).map_err(|e| format!("{e}, or \"none\"")),
        }
    }
}

impl Link {
    /// Its rate; none where it is not shaped.
    pub(super) fn rate(self) -> Option<Rate> {
        match self {
            Self::Shaped(rate) => Some(rate),
            Self::Free => None,
        }
    }
}

fn mix(text: &str) -> Result<Mix, String> {
    let shares: Option<Vec<u32>> = text.split(':').map(|n| n.parse().ok()).collect();
    let five = shares.and_then(|shares| <[u32; 5]>::try_from(shares).ok());
    five.and_then(Mix::of).ok_or_else(|| {
        "five whole numbers that make 100, such as 10:40:25:15:10 (zero, text, heap, random, same)"
            .to_owned()
    })
}

/// What a bench has measured: the bench's own values, and the options in their place.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setting {
    /// Bits a second; none: as fast as it is.
    pub(super) link_bits_per_second: Option<Rate>,
    /// The guest's memory.
    pub(super) memory_bytes: Bytes,
    /// The guest's roles, as on its command line.
    #[serde(serialize_with = "as_text")]
    pub(super) roles: Roles,
    /// Longest a migration may take.
    pub(super) limit_seconds: u32,
    /// Longest pause that a migration may plan with; each side's default without.
    pub(super) blackout_budget_ms: Option<u32>,
    /// Channels of multifd.
    pub(super) channels: u32,
}

fn as_text<S: serde::Serializer>(roles: &Roles, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(roles)
}

impl Setting {
    /// The guest and link that most benches measure: 1 GiB with 600 MiB of mixed
    /// content, 100 MiB of which are rewritten at 20 MiB/s; 1 Gbit/s.
    pub(super) fn usual() -> Self {
        let mix = Mix { zero: 10, text: 40, heap: 25, random: 15, same: 10 };
        Self {
            link_bits_per_second: Some(Rate(1_000_000_000)),
            memory_bytes: Bytes(1 << 30),
            roles: Roles {
                beat: Some(BEAT),
                fill: Some(Fill { mib: 500, mix }),
                dirty: Some(Dirty { rate: 20, set: 100, percent: 10 }),
                ..Roles::default()
            },
            limit_seconds: 300,
            blackout_budget_ms: None,
            channels: 2,
        }
    }

    /// With the user's options in place of the bench's own values.
    ///
    /// # Errors
    /// They do not go together.
    pub(super) fn with(mut self, options: &Options) -> Result<Self> {
        if let Some(link) = options.link {
            self.link_bits_per_second = link.rate();
        }
        self.memory_bytes = options.memory.unwrap_or(self.memory_bytes);
        self.limit_seconds = options.limit.unwrap_or(self.limit_seconds);
        self.blackout_budget_ms = options.blackout_budget.or(self.blackout_budget_ms);
        self.channels = options.channels;
        let mib = |bytes: Bytes| u32::try_from(bytes.0 / MIB).unwrap_or(u32::MAX);
        let roles = &mut self.roles;
        let usual = roles.fill.map_or(Mix::default(), |fill| fill.mix);
        let filled = options.fill.map_or(roles.fill.map_or(0, |fill| fill.mib), mib);
        let mix = options.content.unwrap_or(usual);
        roles.fill = (filled > 0).then_some(Fill { mib: filled, mix });
        let usual = roles.dirty.unwrap_or(Dirty { rate: 0, set: 64, percent: 10 });
        let dirty = Dirty {
            rate: options.dirty_rate.map_or(usual.rate, mib),
            set: options.dirty_set.map_or(usual.set, mib),
            percent: options.dirty_share.unwrap_or(usual.percent),
        };
        roles.dirty = (dirty.rate > 0 && dirty.set > 0).then_some(dirty);
        let needed = u64::from(filled) + u64::from(self.dirty_set_mib());
        let room = (self.memory_bytes.0 / MIB).saturating_sub(96);
        ensure!(
            needed <= room,
            "content and dirtied memory take {needed} MiB; a guest of {} has {room} MiB for them: \
             give it more --memory",
            self.memory_bytes
        );
        Ok(self)
    }

    /// MiB that are rewritten.
    pub(super) fn dirty_set_mib(&self) -> u32 {
        self.roles.dirty.map_or(0, |dirty| dirty.set)
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let link = self.link_bits_per_second.map_or("link not shaped".into(), |r| r.to_string());
        format!("{link}; guest of {} ({})", self.memory_bytes, self.roles)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn setting(line: &str) -> Result<Setting> {
        let words = ["bench"].into_iter().chain(line.split_whitespace());
        Setting::usual().with(&Line::try_parse_from(words)?.options)
    }

    #[test]
    fn options_take_the_place_of_the_benchs_own_values() {
        let usual = setting("").unwrap();
        assert_eq!(usual.roles.to_string(), "beat:2,fill:500:10:40:25:15:10,dirty:20:100:10");
        let other = setting(
            "--link none --memory 256MiB --fill 64MiB --content 0:0:0:100:0 --dirty-rate 5MiB \
             --dirty-set 8MiB --dirty-share 1 --limit 9 --blackout-budget 500",
        )
        .unwrap();
        assert_eq!(other.roles.to_string(), "beat:2,fill:64:0:0:0:100:0,dirty:5:8:1");
        assert_eq!((other.link_bits_per_second, other.limit_seconds), (None, 9));
        assert_eq!(other.blackout_budget_ms, Some(500));
        let idle = setting("--fill 0 --dirty-rate 0").unwrap();
        assert_eq!(idle.roles.to_string(), "beat:2");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, word) in [
            ("--memory 512MiB", "more --memory"),
            ("--content 1:2:3", "make 100"),
            ("--content 20:20:20:20:21", "make 100"),
            ("--link fast", "none"),
            ("--contestants nobody", "multifd"),
            ("--runs 0", "1..=10000"),
            ("--dirty-share 101", "0..=100"),
        ] {
            let problem = format!("{:#}", setting(line).unwrap_err());
            assert!(problem.contains(word), "{line}: {problem}");
        }
    }
}
