//! `godwit agent`.

use agent::AgentConfig;

use super::until_told;
use crate::cli::Program;
use crate::failure::{Failure, USAGE};
use crate::{files, log, output};

pub(crate) fn run(program: &Program) -> Result<(), Failure> {
    let path = &program.config;
    let config = files::config(path, AgentConfig::check)?;
    if program.check {
        let problems = agent::check(&config);
        if problems.is_empty() {
            return output::print(&format!("{} is good\n", path.display()));
        }
        let message = format!("{}: {}", path.display(), problems.join("; "));
        return Err(Failure::new(USAGE, message));
    }
    log::begin("agent");
    until_told("agent", agent::run(config))
}
