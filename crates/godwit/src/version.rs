//! `godwit version`.

use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// The version that people see, with the commit it was built from.
pub(crate) const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("GODWIT_COMMIT"), ")");

pub(crate) fn run(output: &Output) -> Result<(), Failure> {
    let version = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("GODWIT_COMMIT"),
    });
    output.result(&version, |_| format!("godwit {TEXT}\n"))
}
