//! Every decision about records, without I/O, clock or randomness of its own.
//!
//! A decision takes the records as they were read and gives them back as they
//! shall be, with what the history has to say about it.

mod doubt;
mod event;
mod migrate;
mod ownership;
mod plan;
mod record;
mod restored;
mod token;
mod vm;

pub use doubt::{Word, resolve, start_elsewhere};
pub use event::event;
pub use migrate::{Request, cancel, migrate, no_migration};
pub use ownership::{Caller, claim, give_back, reassert, settle};
pub use plan::{Purpose, Tried, Whereabouts, World, advance, again, extend, home, over};
pub use record::{Attempt, Note, Vm};
pub use restored::{close, confirmed, found, missing};
pub use token::{Token, redeem};
pub use vm::{
    Observed, halted, machine_seen, pause, powered_off, powered_off_in_flight, removable, resume,
    start, stop,
};

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
