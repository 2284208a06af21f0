//! Every decision about records, without I/O, clock or randomness of its own.
//!
//! A decision takes the records as they were read and gives them back as they
//! shall be, with what the history has to say about it.

mod event;
mod migrate;
mod ownership;
mod press;
mod record;
mod set;
mod vm;

pub use event::event;
pub use migrate::{Request, cancel, migrate, no_migration};
pub use ownership::{Caller, claim, give_back, reassert, settle};
pub use press::press;
pub use record::{Attempt, Note, Vm};
pub use set::{merged, set};
pub use vm::{
    Observed, halted, machine_seen, pause, powered_off, powered_off_in_flight, removable, resume,
    start, stop,
};

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
