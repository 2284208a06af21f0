//! `godwit carrier`: what agents start for each side of a migration.

use crate::failure::Failure;
use crate::log;

/// Serves one side of one attempt, as standard input says.
pub(crate) fn run() -> Result<(), Failure> {
    log::begin("carrier");
    ::carrier::main_from_stdin().map_err(Failure::of)
}
