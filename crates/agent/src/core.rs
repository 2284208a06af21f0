//! Every decision of the agent about one VM, without I/O, clock or randomness of
//! its own: what to do next, what an event means to the side of an attempt, what
//! an answer of the controller means, and what the journal holds.
//!
//! The shell around it performs, and reports what became of it. The simulator
//! drives exactly this.

mod decide;
mod incoming;
mod outgoing;
mod record;
mod reply;

pub use decide::{Qemu, Step, World, decide, run_state};
pub use incoming::IncomingCore;
pub use outgoing::{OutgoingCore, Told};
pub use record::{Incoming, Outgoing, VERSION, VmRecord};
pub use reply::{Swap, reassert, swapped, unsettled};
