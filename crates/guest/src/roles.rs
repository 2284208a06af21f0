//! What a Linux guest is to do, as it stands on its kernel command line.

use std::fmt;
use std::str::FromStr;

use crate::fill::Mix;

/// What a Linux guest does. Written as `serve,beat:10,dirty:50:64:100`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// `serve[:KIB]`: a TCP server streams counters at so many KiB/s (256).
    pub serve: Option<u32>,
    /// `beat[:MS]`: a heartbeat packet every so many milliseconds (10).
    pub beat: Option<u32>,
    /// `fill:MIB[:ZERO:TEXT:HEAP:RANDOM:SAME]`: memory is filled with content.
    pub fill: Option<Fill>,
    /// `dirty:RATE[:SET[:PERCENT]]`: memory is rewritten.
    pub dirty: Option<Dirty>,
    /// `fsync[:MS]`: blocks are chained on the first disk, with so many
    /// milliseconds between them (10).
    pub fsync: Option<u32>,
    /// `shell`: a shell at the console, which then shows no heartbeat.
    pub shell: bool,
    /// `quiet`: sends no packet but answers; excludes `beat`.
    pub quiet: bool,
}

/// How memory is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// How much, in MiB.
    pub mib: u32,
    /// With what.
    pub mix: Mix,
}

/// How memory is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirty {
    /// MiB/s; 0: as fast as it can.
    pub rate: u32,
    /// The working set in MiB (64).
    pub set: u32,
    /// How much of a page changes, in percent (100).
    pub percent: u32,
}

/// A role that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolesError {
    role: String,
    rule: &'static str,
}

impl fmt::Display for RolesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role {:?}: {}", self.role, self.rule)
    }
}

impl std::error::Error for RolesError {}

impl FromStr for Roles {
    type Err = RolesError;

    fn from_str(text: &str) -> Result<Self, RolesError> {
        let mut roles = Self::default();
        for role in text.split(',').filter(|r| !r.is_empty()) {
            let fail = |rule| RolesError { role: role.chars().take(80).collect(), rule };
            let mut parts = role.split(':');
            let name = parts.next().unwrap_or_default();
            let numbers = parts
                .map(|n| n.parse().map_err(|_| fail("numbers are whole and below 2^32")))
                .collect::<Result<Vec<u32>, _>>()?;
            let one = |default: u32| match *numbers {
                [] => Ok(default),
                [0] => Err(fail("the number must be at least 1")),
                [n] => Ok(n),
                _ => Err(fail("takes one number at most")),
            };
            match name {
                "serve" => roles.serve = Some(one(256)?),
                "beat" => roles.beat = Some(one(10)?),
                "fsync" => roles.fsync = Some(one(10)?),
                "fill" => {
                    let rule = "needs a size: fill:MIB[:ZERO:TEXT:HEAP:RANDOM:SAME], shares of 100";
                    roles.fill = Some(match *numbers {
                        [mib @ (1..)] => Fill { mib, mix: Mix::default() },
                        [mib @ (1..), zero, text, heap, random, same] => {
                            let mix = Mix::of([zero, text, heap, random, same]);
                            Fill { mib, mix: mix.ok_or_else(|| fail(rule))? }
                        }
                        _ => return Err(fail(rule)),
                    });
                }
                "dirty" => {
                    roles.dirty = Some(match *numbers {
                        [rate] => Dirty { rate, set: 64, percent: 100 },
                        [rate, set @ (1..)] => Dirty { rate, set, percent: 100 },
                        [rate, set @ (1..), percent @ 0..=100] => Dirty { rate, set, percent },
                        _ => return Err(fail("is written dirty:MIB_PER_S[:SET_MIB[:PERCENT]]")),
                    });
                }
                "shell" if numbers.is_empty() => roles.shell = true,
                "quiet" if numbers.is_empty() => roles.quiet = true,
                "quiet" | "shell" => return Err(fail("takes no number")),
                _ => return Err(fail("is none of serve, beat, fill, dirty, fsync, shell, quiet")),
            }
        }
        if roles.quiet && roles.beat.is_some() {
            return Err(RolesError {
                role: "quiet".into(),
                rule: "sends nothing, and beat sends: choose one",
            });
        }
        Ok(roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |name: &str, n: Option<u32>| n.map(|n| format!("{name}:{n}"));
        let dirty = self.dirty.map(|d| format!("dirty:{}:{}:{}", d.rate, d.set, d.percent));
        let all = [
            one("serve", self.serve),
            one("beat", self.beat),
            self.fill.map(|f| match f.mix == Mix::default() {
                true => format!("fill:{}", f.mib),
                false => format!("fill:{}:{}", f.mib, f.mix),
            }),
            dirty,
            one("fsync", self.fsync),
            self.shell.then(|| "shell".to_owned()),
            self.quiet.then(|| "quiet".to_owned()),
        ];
        f.write_str(&all.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_as_they_are_written() {
        for (text, full) in [
            ("", ""),
            ("serve", "serve:256"),
            ("beat,serve:1", "serve:1,beat:10"),
            ("dirty:50", "dirty:50:64:100"),
            ("dirty:0:8:25,fill:1200,fsync", "fill:1200,dirty:0:8:25,fsync:10"),
            ("fill:7:10:40:25:15:10", "fill:7:10:40:25:15:10"),
            ("quiet,,", "quiet"),
            ("shell,serve", "serve:256,shell"),
        ] {
            let roles: Roles = text.parse().unwrap();
            assert_eq!(roles.to_string(), full);
            assert_eq!(full.parse::<Roles>().unwrap(), roles);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("sing", "none of"),
            ("serve:x", "whole"),
            ("serve:-1", "whole"),
            ("serve:0", "at least 1"),
            ("beat:1:2", "one number"),
            ("fill", "needs a size"),
            ("fill:0", "needs a size"),
            ("fill:1:2", "needs a size"),
            ("fill:1:20:20:20:20:21", "shares of 100"),
            ("dirty", "MIB_PER_S"),
            ("dirty:1:0", "MIB_PER_S"),
            ("dirty:1:1:101", "MIB_PER_S"),
            ("quiet:1", "no number"),
            ("beat,quiet", "choose one"),
        ] {
            let problem = text.parse::<Roles>().unwrap_err().to_string();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
