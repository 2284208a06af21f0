//! Two small functions over 32-bit words, simple enough for a boot sector.

const A: u32 = 0x9E37_79B1;
const B: u32 = 0x85EB_CA77;

/// A word that depends on where it stands and on how often it was written.
pub fn mix(place: u32, generation: u32) -> u32 {
    let x = place.wrapping_mul(A).wrapping_add(generation.wrapping_mul(B));
    x ^ (x >> 15)
}

/// Hash over words; finds accidents, not attacks.
pub fn hash(words: impl IntoIterator<Item = u32>) -> u32 {
    words.into_iter().fold(0x811C_9DC5, |h, w| (h ^ w).rotate_left(5).wrapping_mul(A))
}

/// The little-endian words of a slice; a rest of fewer than four bytes is left out.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w))
}

/// Fills a slice with words; `word` gets the index.
pub(crate) fn fill_words(bytes: &mut [u8], mut word: impl FnMut(u32) -> u32) {
    for (i, place) in (0u32..).zip(bytes.as_chunks_mut::<4>().0) {
        *place = word(i).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_of_the_tiny_guest() {
        // The tiny guest has its own copy of both in assembly.
        assert_eq!(mix(0, 0), 0);
        assert_eq!(mix(1, 0), 0x9E37_79B1 ^ (0x9E37_79B1 >> 15));
        assert_eq!(mix(0, 1), 0x85EB_CA77 ^ (0x85EB_CA77 >> 15));
        assert_eq!(hash([]), 0x811C_9DC5);
        assert_eq!(hash([0x811C_9DC5, 1]), 1u32.rotate_left(5).wrapping_mul(0x9E37_79B1));
        assert_ne!(hash([1, 2]), hash([2, 1]));
    }
}
