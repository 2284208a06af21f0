//! Every decision about records, without I/O, clock or randomness of its own.
//!
//! A decision takes the records as they were read and gives them back as they
//! shall be, with what the history has to say about it.

mod doubt;
mod event;
mod migrate;
mod ownership;
mod record;
mod restored;
mod token;
mod vm;

pub(crate) use doubt::{Word, resolve, start_elsewhere};
pub(crate) use event::event;
pub(crate) use migrate::{Request, cancel, migrate, no_migration};
pub(crate) use ownership::{Caller, claim, give_back, reassert, settle};
pub(crate) use record::{Attempt, Note, Vm};
pub(crate) use restored::{close, confirmed, found, missing};
pub(crate) use token::{Token, redeem};
pub(crate) use vm::{
    Observed, halted, machine_seen, pause, powered_off, powered_off_in_flight, removable, resume,
    start, stop,
};

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
