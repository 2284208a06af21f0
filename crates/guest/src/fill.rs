//! Memory content of mixed compressibility that can be made again for checking.

use crate::words::mix;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Texts that pages are written in.
const WORDS: &[u8] = b"the godwit flew over eleven thousand kilometres without a stop; \
it came back in the same year and the tides were as it left them, yes";

/// Fills page `index`: of four pages two are text, one is half random, and one
/// is random. `page` is as long as [`PAGE`].
pub fn page(index: u32, page: &mut [u8]) {
    let mut state = (u64::from(mix(index, 1)) << 32 | u64::from(mix(index, 2))) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let texts = WORDS.as_chunks::<8>().0;
    let (places, _) = page.as_chunks_mut::<8>();
    let half = places.len() / 2;
    for (i, place) in places.iter_mut().enumerate() {
        *place = match index % 4 {
            0 | 1 => {
                let word = (random() >> 40) as usize % texts.len();
                texts.get(word).copied().unwrap_or_default()
            }
            2 if i < half => u64::from(index).to_le_bytes(),
            _ => random().to_le_bytes(),
        };
    }
}

/// Whether `found` is page `index`; `scratch` is a page to work in.
pub fn is_page(index: u32, found: &[u8], scratch: &mut [u8; PAGE]) -> bool {
    page(index, scratch);
    found == scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_differ_and_can_be_checked() {
        let mut scratch = [0; PAGE];
        let mut seen = std::collections::HashSet::new();
        for index in 0..256 {
            let mut content = vec![0; PAGE];
            page(index, &mut content);
            assert!(is_page(index, &content, &mut scratch));
            assert!(!is_page(index + 4, &content, &mut scratch));
            content[PAGE - 1] ^= 1;
            assert!(!is_page(index, &content, &mut scratch));
            assert!(seen.insert(content));
        }
    }

    #[test]
    fn compressibility_is_mixed() {
        // Distinct eight-byte words stand for what a compressor would find.
        let distinct = |index| {
            let mut content = vec![0; PAGE];
            page(index, &mut content);
            content.as_chunks::<8>().0.iter().collect::<std::collections::HashSet<_>>().len()
        };
        assert!(distinct(0) <= 16 && distinct(1) <= 16);
        assert_eq!(distinct(2), 257);
        assert_eq!(distinct(3), 512);
    }
}
