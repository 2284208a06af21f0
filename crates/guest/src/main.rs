//! `godwit-guest`: runs inside the lab's Linux guests and does what the kernel
//! command line says; on a host, `godwit-guest verify-disk FILE [COUNT]` checks
//! the chain that the role `fsync` left on a raw disk, and `verify-tiny-disk` that
//! of a tiny guest.

mod program;

use std::process::ExitCode;

use godwit_guest::chain::{self, Ring};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments.as_slice() {
        [] => program::run(),
        ["verify-disk", file, ref rest @ ..] if rest.len() < 2 => {
            count(rest).and_then(|count| verify_disk(file, count, Ring::linux))
        }
        ["verify-tiny-disk", file, ref rest @ ..] if rest.len() < 2 => {
            count(rest).and_then(|count| verify_disk(file, count, |_| Some(Ring::TINY)))
        }
        _ => {
            eprintln!("usage: godwit-guest [verify-disk|verify-tiny-disk FILE [ACKNOWLEDGED]]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            program::say(&format!("guest ERROR {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// The number of acknowledged blocks, if it is given.
fn count(rest: &[&str]) -> Result<u32, String> {
    let Some(count) = rest.first() else { return Ok(0) };
    count.parse().map_err(|e| format!("acknowledged count {count:?}: {e}"))
}

/// Checks a raw disk whose chain stands where `ring` says for its size; prints
/// the number of its newest block.
fn verify_disk(
    file: &str,
    acknowledged: u32,
    ring: impl Fn(u64) -> Option<Ring>,
) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("{file}: {e}");
    let mut disk = std::fs::File::open(file).map_err(|e| fail(&e))?;
    let size = disk.metadata().map_err(|e| fail(&e))?.len();
    let ring = ring(size).ok_or_else(|| fail(&"too small for a chain"))?;
    let head = chain::check(&mut disk, &ring, acknowledged).map_err(|e| fail(&e))?;
    println!("{} blocks", head.counter);
    Ok(())
}
