//! `godwit-guest`: runs inside the lab's Linux guests and does what the kernel
//! command line says; on a host, `godwit-guest verify-disk FILE [COUNT]` checks
//! the chain that the role `fsync` left on a raw disk.

mod program;

use std::process::ExitCode;

use godwit_guest::chain::{self, Ring};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments.as_slice() {
        [] => program::run(),
        ["verify-disk", file] => verify_disk(file, 0),
        ["verify-disk", file, count] => match count.parse() {
            Ok(count) => verify_disk(file, count),
            Err(e) => Err(format!("acknowledged count {count:?}: {e}")),
        },
        _ => {
            eprintln!("usage: godwit-guest [verify-disk FILE [ACKNOWLEDGED]]");
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

/// Checks a raw disk; prints the number of its newest block.
fn verify_disk(file: &str, acknowledged: u32) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("{file}: {e}");
    let mut disk = std::fs::File::open(file).map_err(|e| fail(&e))?;
    let size = disk.metadata().map_err(|e| fail(&e))?.len();
    let ring = Ring::linux(size).ok_or_else(|| fail(&"too small for a chain"))?;
    let head = chain::check(&mut disk, &ring, acknowledged).map_err(|e| fail(&e))?;
    println!("{} blocks", head.counter);
    Ok(())
}
