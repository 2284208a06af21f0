//! The `godwit` binary against a controller that says what a test wants.
#![allow(clippy::unwrap_used)] // everything here is a test's

mod commands;
mod fake;
mod migrate;
mod surroundings;
mod wrong;
