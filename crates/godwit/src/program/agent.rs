//! `godwit agent`.

use std::path::Path;

use agent::AgentConfig;

use super::until_told;
use crate::failure::{Failure, USAGE};
use crate::{files, log};

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    log::begin("agent");
    let config = AgentConfig::load(files::bounded(config)?)
        .map_err(|e| Failure::new(USAGE, e.to_string()))?;
    until_told("agent", agent::run(config))
}
