//! What two carriers say to each other, and the rules of their session.
//!
//! Frames travel on streams between the carriers of one attempt: a forward
//! stream from source to destination carries memory and device state, a
//! backward stream carries acknowledgements and QEMU's return path. A frame
//! names its stream and its place in it, so that further streams and resuming
//! fit without a new format. The [`Sender`] and [`Receiver`] keep the session's
//! invariants:
//!
//! 1. A frame is applied once, in the order of its stream; a gap ends the session.
//! 2. The sequence number of a page's frame is the page's version: within a
//!    session it only rises, so that nothing older follows something newer.
//! 3. The seal names how many frames came before it; it holds only if all of
//!    them were applied, and after it no page is accepted.
//! 4. What is not acknowledged is known to the byte: that bounds what is in flight.

mod frame;
mod hello;
mod session;

pub use frame::{Frame, FrameError, HEADER, Header, Kind, MAX_NOTE, MAX_PAYLOAD};
pub use hello::{Direction, HELLO, Hello, HelloError, VERSION};
pub use session::{Acknowledgement, Receiver, Sender, SessionError};
