//! `godwit agent`.

use std::path::Path;

use agent::AgentConfig;

use super::until_told;
use crate::failure::Failure;
use crate::{files, log};

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    log::begin("agent");
    let config = files::config(config, AgentConfig::check)?;
    until_told("agent", agent::run(config))
}
