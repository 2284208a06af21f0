//! The microarchitecture levels of the x86-64 psABI.

use std::fmt;

use super::Features;

/// A level: what a program that was compiled for it may use without asking.
/// Source: System V ABI, AMD64 supplement, "Micro-Architecture Levels".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// x86-64-v1: SSE2.
    V1,
    /// x86-64-v2: SSE4.2, POPCNT, CMPXCHG16B.
    V2,
    /// x86-64-v3: AVX2, BMI, FMA.
    V3,
    /// x86-64-v4: AVX-512 F, BW, CD, DQ, VL.
    V4,
}

const ADDED: [(Level, &[&str]); 4] = [
    (Level::V1, &["cmov", "cx8", "fpu", "fxsr", "lm", "mmx", "sse", "sse2", "syscall"]),
    (Level::V2, &["cx16", "lahf-lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"]),
    (Level::V3, &["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
    (Level::V4, &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]),
];

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::V1, Self::V2, Self::V3, Self::V4];

    /// What the level and those below it ask for.
    #[must_use]
    pub fn features(self) -> Features {
        ADDED.iter().filter(|(l, _)| *l <= self).flat_map(|(_, f)| f.iter().copied()).collect()
    }

    /// The highest level that a set of features reaches; `None` for a processor
    /// that does not reach the first.
    #[must_use]
    pub fn of(features: &Features) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|l| l.features().within(features))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        })
    }
}
