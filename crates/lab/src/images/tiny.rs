//! The tiny guest: a disk image that boots in a moment, for hundreds of quick
//! migrations. It writes a pattern over its memory and hash-chained blocks to
//! its disk, both checkable from outside (`guest::tiny`, `guest::chain`).
#![allow(unsafe_code, reason = "the assembler's bytes are a symbol that only the linker knows")]

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::Path;

use guest::chain::{self, Ring};

use super::ImageError;

core::arch::global_asm!(include_str!("tiny.s"), options(att_syntax));

// SAFETY: `tiny.s` defines `godwit_tiny` as 4,096 bytes of read-only data.
unsafe extern "C" {
    #[link_name = "godwit_tiny"]
    safe static CODE: [u8; 4096];
}

/// Bytes of the image: the code, and the ring of blocks.
const SIZE: u64 = 2 << 20;

/// How much the tiny guest works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TinyOptions {
    /// Heartbeats a second, 1 to 100.
    pub rate: u32,
    /// Pages rewritten with each heartbeat.
    pub rewrite: u32,
    /// Pages of the window that is rewritten in turn.
    pub window: u32,
    /// Address where the pattern ends at most, a multiple of 4,096; 0: the end
    /// of memory.
    pub limit: u32,
    /// Whether blocks are chained on the disk (an IDE disk of a `pc`).
    pub chain: bool,
}

impl Default for TinyOptions {
    /// Ten heartbeats a second; 2.5 MiB/s in a window of 4 MiB.
    fn default() -> Self {
        Self { rate: 10, rewrite: 64, window: 1024, limit: 0, chain: true }
    }
}

/// Makes the disk image of a tiny guest. It boots wherever SeaBIOS finds it; the
/// chain needs an IDE disk of the machine type `pc`.
///
/// # Errors
/// The file exists already or cannot be written.
pub fn tiny(path: &Path, options: &TinyOptions) -> Result<(), ImageError> {
    let fail = |source| ImageError::File { action: "write", path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail)?;
    file.set_len(SIZE).map_err(fail)?;
    file.write_all(&code(options)).map_err(fail)
}

/// The guest's sectors with its parameters, which stand behind the first jump.
fn code(options: &TinyOptions) -> Vec<u8> {
    let parameters = [
        options.rewrite,
        options.window.max(1),
        options.limit & !4095,
        100 / options.rate.clamp(1, 100),
        u32::from(options.chain),
    ];
    let bytes = parameters.iter().flat_map(|p| p.to_le_bytes());
    CODE.iter().take(4).copied().chain(bytes).chain(CODE.iter().skip(24).copied()).collect()
}

/// Checks the chain in a tiny guest's disk image: whole, and with the block
/// `acknowledged` (0: none) or a newer one. Returns the newest.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_tiny_disk(
    image: &mut (impl Read + Seek),
    acknowledged: u32,
) -> Result<chain::Head, chain::ChainError> {
    chain::check(image, &Ring::TINY, acknowledged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_bootable_and_carries_its_parameters() {
        let options = TinyOptions { rate: 50, rewrite: 7, window: 0, limit: 4097, chain: false };
        let code = code(&options);
        assert_eq!(code.len(), 4096);
        assert_eq!(code[510..512], [0x55, 0xaa]);
        let words: Vec<u32> =
            code[4..24].as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
        assert_eq!(words, [7, 1, 4096, 2, 0]);
        let default: Vec<u8> = super::code(&TinyOptions::default());
        assert_eq!(default, CODE, "the assembly says the same defaults");
    }

    #[test]
    fn an_image_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.raw");
        tiny(&path, &TinyOptions::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE);
        assert!(tiny(&path, &TinyOptions::default()).unwrap_err().to_string().contains("t.raw"));
        let mut file = std::fs::File::open(&path).unwrap();
        assert_eq!(check_tiny_disk(&mut file, 0).unwrap().counter, 0);
    }
}
