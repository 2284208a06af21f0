//! `godwit controller`.

use std::path::Path;

use controller::ControllerConfig;

use super::until_told;
use crate::failure::{Failure, USAGE};
use crate::{files, log};

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    log::begin("controller");
    let config = ControllerConfig::load(files::bounded(config)?)
        .map_err(|e| Failure::new(USAGE, e.to_string()))?;
    until_told("controller", controller::run(config))
}
