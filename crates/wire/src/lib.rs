//! What two carriers say to each other, and the rules of their session.
//!
//! Frames travel on streams between the carriers of one attempt: a forward
//! stream from source to destination carries memory and device state, a
//! backward stream carries acknowledgements and QEMU's return path. The
//! connections that carry them may break: a *link* is one set of connections,
//! and a session outlives its links. A frame names its stream and its place in
//! it; each end of a new link says what it has applied, and the other goes on
//! from there. [`Sender`], [`Receiver`] and [`Entrance`] keep the session's
//! invariants:
//!
//! 1. A frame is applied once, in the order of its stream; a gap ends the session.
//! 2. The sequence number of a page's frame is the page's version: within a
//!    session it only rises, so that nothing older follows something newer.
//! 3. The seal names how many frames came before it; it holds only if all of
//!    them were applied, and after it no page is accepted.
//! 4. What is not acknowledged is known to the byte: that bounds what is in flight,
//!    and it is all that a new link may send again.
//! 5. A link begins only if it is newer than all before it. The attempt's secret
//!    begins the session once; later links prove the session's own.

mod entrance;
mod error;
mod frame;
mod hello;
mod receiver;
mod sender;

pub use entrance::{Entrance, Secret};
pub use error::SessionError;
pub use frame::{Frame, FrameError, HEADER, Header, Kind, MAX_NOTE, MAX_PAYLOAD, MAX_PLACED};
pub use hello::{Direction, HELLO_PREFIX, Hello, HelloError, MAX_LANES, NEWEST, OLDEST, PROOF};
pub use receiver::{Acknowledgement, Receiver};
pub use sender::Sender;
