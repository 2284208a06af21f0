//! `godwit controller`.

use std::path::Path;

use controller::ControllerConfig;

use super::until_told;
use crate::failure::{Failure, USAGE};
use crate::{files, log, output};

/// Runs it, or with `check` only looks whether it could.
pub(crate) fn run(path: &Path, check: bool) -> Result<(), Failure> {
    let config: ControllerConfig = files::config(path, |_| Ok(()))?;
    if check {
        config.ready().map_err(|e| Failure::new(USAGE, e.to_string()))?;
        return output::print(&format!("{} is good\n", path.display()));
    }
    log::begin("controller");
    until_told("controller", controller::run(config))
}
