//! Builds the program that runs inside Linux guests, static, so that it can be
//! put into an initial RAM file system wherever this crate's user runs.
//!
//! The program uses the standard library only: two calls of the compiler build
//! it. Where static linking is not possible the build goes on, and the reason is
//! told when a guest is asked for.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../guest/src");
    let out = env::var("OUT_DIR").unwrap_or_default();
    let program = Path::new(&out).join("godwit-guest");
    let problem = build(Path::new(&out), &program).err().unwrap_or_default();
    if !problem.is_empty() {
        println!("cargo::warning=the guest's program was not built: {problem}");
        let _ = fs::write(&program, []);
    }
    if let Err(e) = fs::write(Path::new(&out).join("godwit-guest.problem"), problem) {
        println!("cargo::error=cannot write to {out}: {e}");
    }
}

fn build(out: &Path, program: &Path) -> Result<(), String> {
    let library = out.join("libgodwit_guest.rlib");
    rustc(&["--crate-type=rlib", "--crate-name=godwit_guest", "../guest/src/lib.rs"], &library)?;
    let library = format!("--extern=godwit_guest={}", library.display());
    rustc(&["--crate-name=godwit_guest_program", &library, "../guest/src/main.rs"], program)
}

fn rustc(arguments: &[&str], output: &Path) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let result = Command::new(rustc)
        .args(["--edition=2024", "--target", TARGET, "--cap-lints=allow"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols"])
        .arg("-Ctarget-feature=+crt-static")
        .args(arguments)
        .arg("-o")
        .arg(output)
        .output()
        .map_err(|e| format!("the compiler cannot be started: {e}"))?;
    if result.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&result.stderr).lines().take(20).collect::<Vec<_>>().join(" | "))
}
