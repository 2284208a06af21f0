//! Digests by which both sides of a move are compared.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// BLAKE3 of memory files, one after another, in hexadecimal. Blocking; about half a
/// second a GiB.
pub(crate) fn memory_digest(files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 2 << 20];
    for file in files {
        let mut file = File::open(file)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            };
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of what QEMU's `info registers -a` shows, without the lazily kept
/// condition codes of TCG: the stream carries them resolved into `EFL`.
pub(crate) fn register_digest(shown: &str) -> String {
    let lines = shown.lines().map(str::trim).filter(|l| !l.starts_with("CCS="));
    let mut hasher = blake3::Hasher::new();
    for line in lines {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_codes_alone_make_no_difference() {
        let a = "CPU#0\r\nRAX=01 EFL=00000246\r\nCCS=0044 CCD=0000 CCO=EFLAGS\r\n";
        let b = "CPU#0\nRAX=01 EFL=00000246\nCCS=0000 CCD=0012 CCO=SUBL\n";
        assert_eq!(register_digest(a), register_digest(b));
        assert_ne!(register_digest(a), register_digest(&b.replace("RAX=01", "RAX=02")));
    }
}
