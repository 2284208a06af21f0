//! `godwit controller`.

use std::path::Path;

use controller::ControllerConfig;

use super::until_told;
use crate::failure::Failure;
use crate::{files, log};

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    log::begin("controller");
    let config: ControllerConfig = files::config(config, |_| Ok(()))?;
    until_told("controller", controller::run(config))
}
