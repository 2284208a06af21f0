//! Memory content of mixed compressibility that can be made again for checking.

use std::fmt;

use crate::words::mix;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Pages of [`Kind::Same`] that differ.
const ORIGINALS: u32 = 256;
/// Words of the vocabulary; a power of two.
const VOCABULARY: usize = 1024;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Zeroes.
    Zero,
    /// Words of a small language, the rare ones rare, and numbers.
    Text,
    /// What allocators leave: pointers, small numbers, gaps, noise.
    Heap,
    /// Noise: what is encrypted or compressed already.
    Random,
    /// One of a few pages of the kind heap, as libraries and caches repeat them.
    Same,
}

/// How many of a hundred pages are of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Zero pages.
    pub zero: u32,
    /// Text.
    pub text: u32,
    /// Pointers and numbers.
    pub heap: u32,
    /// Noise.
    pub random: u32,
    /// Pages that occur again and again.
    pub same: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { zero: 0, text: 50, heap: 25, random: 25, same: 0 }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}:{}", self.zero, self.text, self.heap, self.random, self.same)
    }
}

impl Mix {
    /// The mix of five shares in the order of the fields, if they make a hundred.
    pub fn of(shares: [u32; 5]) -> Option<Self> {
        let sum = shares.iter().try_fold(0u32, |sum, share| sum.checked_add(*share));
        let [zero, text, heap, random, same] = shares;
        (sum == Some(100)).then_some(Self { zero, text, heap, random, same })
    }

    /// Kinds are spread evenly: any hundred pages in a row have the mix's shares.
    fn kind(&self, index: u32) -> Kind {
        let mut place = (index % 100) * 37 % 100;
        for (share, kind) in [
            (self.zero, Kind::Zero),
            (self.text, Kind::Text),
            (self.heap, Kind::Heap),
            (self.random, Kind::Random),
        ] {
            match place.checked_sub(share) {
                None => return kind,
                Some(rest) => place = rest,
            }
        }
        Kind::Same
    }
}

/// Content of a mix: what page `index` holds follows from the index alone.
#[derive(Debug)]
pub struct Content {
    mix: Mix,
    vocabulary: Vec<Vec<u8>>,
}

impl Content {
    /// Content of a mix.
    pub fn new(mix: Mix) -> Self {
        Self { mix, vocabulary: (0..VOCABULARY as u32).map(word).collect() }
    }

    /// Fills page `index`. `page` is as long as [`PAGE`].
    pub fn page(&self, index: u32, page: &mut [u8]) {
        match self.mix.kind(index) {
            Kind::Zero => page.fill(0),
            Kind::Text => self.text(Random::new(index), page),
            Kind::Heap => heap(Random::new(index), page),
            Kind::Random => {
                let mut random = Random::new(index);
                page.as_chunks_mut().0.iter_mut().for_each(|w| *w = random.next().to_le_bytes());
            }
            Kind::Same => heap(Random::new(u32::MAX - mix(index, 3) % ORIGINALS), page),
        }
    }

    /// Whether `found` is page `index`; `scratch` is a page to work in.
    pub fn is_page(&self, index: u32, found: &[u8], scratch: &mut [u8; PAGE]) -> bool {
        self.page(index, scratch);
        found == scratch
    }

    fn text(&self, mut random: Random, mut page: &mut [u8]) {
        let mut put = |bytes: &[u8]| {
            let taken = bytes.len().min(page.len());
            let (place, rest) = std::mem::take(&mut page).split_at_mut(taken);
            place.copy_from_slice(&bytes[..taken]);
            page = rest;
            !page.is_empty()
        };
        loop {
            let chance = random.next();
            // The product of two makes the words at the front the frequent ones.
            let (a, b) = (chance as usize % VOCABULARY, (chance >> 20) as usize % VOCABULARY);
            let word = self.vocabulary.get(a * b / VOCABULARY).map_or(&b""[..], Vec::as_slice);
            let going_on = if chance >> 60 == 0 {
                put(format!("{}\n", chance as u32).as_bytes())
            } else {
                put(word) && put(b" ")
            };
            if !going_on {
                return;
            }
        }
    }
}

fn heap(mut random: Random, page: &mut [u8]) {
    let base = 0x0000_7F00_0000_0000 | (random.next() & 0xFF_FF00_0000);
    for words in page.as_chunks_mut::<8>().0.chunks_mut(4) {
        let chance = random.next();
        let record = [base | (chance & 0xF_FFFF) << 4, chance >> 56, 0, chance >> 24 & 0xFFFF_FFFF];
        words.iter_mut().zip(record).for_each(|(place, word)| *place = word.to_le_bytes());
    }
}

/// Word `index` of the vocabulary: one to four syllables.
fn word(index: u32) -> Vec<u8> {
    const CONSONANTS: &[u8; 16] = b"tnshrdlcmfgpbvkw";
    const VOWELS: &[u8; 8] = b"eaoieaui";
    let mut random = Random::new(index ^ 0x5EED);
    let syllables = 1 + random.next() % 4;
    (0..syllables)
        .flat_map(|_| {
            let chance = random.next();
            [CONSONANTS[(chance >> 8 & 15) as usize], VOWELS[(chance >> 16 & 7) as usize]]
        })
        .collect()
}

/// Xorshift, started from a page's index.
struct Random(u64);

impl Random {
    fn new(index: u32) -> Self {
        Self((u64::from(mix(index, 1)) << 32 | u64::from(mix(index, 2))) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const EVERYTHING: Mix = Mix { zero: 10, text: 40, heap: 25, random: 15, same: 10 };

    fn page(content: &Content, index: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        content.page(index, &mut page);
        page
    }

    #[test]
    fn pages_differ_and_can_be_checked() {
        let content = Content::new(Mix::default());
        let mut scratch = [0; PAGE];
        let mut seen = HashSet::new();
        for index in 0..256 {
            let mut found = page(&content, index);
            assert!(content.is_page(index, &found, &mut scratch));
            assert!(!content.is_page(index + 1, &found, &mut scratch));
            found[PAGE - 1] ^= 1;
            assert!(!content.is_page(index, &found, &mut scratch));
            assert!(seen.insert(found));
        }
    }

    #[test]
    fn every_hundred_pages_have_the_shares() {
        for from in [0, 100, 50, 77_777] {
            let kinds: Vec<_> = (from..from + 100).map(|i| EVERYTHING.kind(i)).collect();
            let count = |kind| kinds.iter().filter(|k| **k == kind).count();
            let all = [Kind::Zero, Kind::Text, Kind::Heap, Kind::Random, Kind::Same];
            assert_eq!(all.map(count), [10, 40, 25, 15, 10]);
        }
        assert_eq!(Mix::of([10, 40, 25, 15, 10]), Some(EVERYTHING));
        assert_eq!(Mix::of([10, 40, 25, 15, 11]), None);
        assert_eq!(Mix::of([u32::MAX, 1, 0, 0, 0]), None);
    }

    #[test]
    fn compressibility_is_mixed() {
        let content = Content::new(EVERYTHING);
        let of = |kind| (0..).find(|i| EVERYTHING.kind(*i) == kind).unwrap();
        // The entropy of single bytes stands for what a compressor would find, roughly.
        let entropy = |kind| {
            let found = page(&content, of(kind));
            let mut counts = [0.0f64; 256];
            found.iter().for_each(|b| counts[usize::from(*b)] += 1.0);
            let share = |n: &f64| n / PAGE as f64;
            counts.iter().filter(|n| **n > 0.0).map(|n| -share(n) * share(n).log2()).sum::<f64>()
        };
        assert_eq!(entropy(Kind::Zero), 0.0);
        assert!((3.0..4.5).contains(&entropy(Kind::Text)), "{}", entropy(Kind::Text));
        assert!((3.0..5.0).contains(&entropy(Kind::Heap)), "{}", entropy(Kind::Heap));
        assert!(entropy(Kind::Random) > 7.9);
    }

    #[test]
    fn the_same_pages_come_again() {
        let content = Content::new(Mix { same: 100, zero: 0, text: 0, heap: 0, random: 0 });
        let seen: HashSet<_> = (0..2000).map(|i| page(&content, i)).collect();
        assert!((200..=256).contains(&seen.len()), "{}", seen.len());
    }
}
