//! Agents and controller of a small fleet in one thread: their cores as they are,
//! a store and QEMUs that are made up, a virtual clock, and faults at every step.
//!
//! A run is one VM that is moved back and forth while things fail. What must hold
//! is looked at after every event by an oracle that knows only which QEMU has
//! executed what; at the end the faults stop, and everything has to come to rest
//! with nothing left over. A run is its seed: the same seed is the same run.

mod agent;
mod chance;
mod controller;
mod destination;
mod faults;
mod host;
mod oracle;
mod run;
mod source;
mod world;

pub use faults::{FAULTS, Fault};
pub use oracle::Violation;
pub use run::{Report, Summary, replay, run_many, run_one};
