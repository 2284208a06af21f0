//! Those who watch a guest from outside: its stream of counters, its heartbeat,
//! and its answers.
//!
//! What is seen is judged by pure cores that get every time passed in; threads
//! only read sockets.

mod beats;
mod control;
mod stream;
mod watch;

pub use beats::{BeatReport, BeatWitness};
pub use control::{Control, first_answer};
pub use stream::{StreamReport, StreamWitness};
