//! QEMU's migration stream: decoder and encoder.
//!
//! The main channel of QEMU 7.2 to 10.x is taken apart into guest pages and
//! bytes that travel on as they are, and put together again. The [`Decoder`]
//! borrows its input and copies nothing; the [`Encoder`] turns what the
//! decoder gave, with or without some of the pages, back into a stream that
//! QEMU loads. Neither does I/O, neither trusts what it reads, and both keep a
//! bounded amount of state.
//!
//! ```text
//! header, configuration           Verbatim
//! commands                        Verbatim
//! ram START: sizes of the blocks  Verbatim, the last one marked Blocks
//! ram PART: pages                 Page ... Verbatim(EOS) marked RoundEnd
//! ...
//! ram END: pages                  Page ... Verbatim(footer) marked RamEnd
//! device state                    Tail: no lengths in it, so nobody can parse it
//! ```
//!
//! A section that is not understood turns the whole stream opaque
//! ([`Item::Opaque`], then everything is [`Item::Tail`]) as long as no page was
//! given out, and is an error afterwards.

mod config;
mod cursor;
mod decode;
mod encode;
mod error;
mod format;
mod ram;
mod return_path;

pub use decode::{Content, Decoder, Item, Limits, MAX_ITEM, Mark, Page, RamBlock, Step};
pub use encode::{EncodeError, Encoder};
pub use error::DecodeError;
pub use return_path::{ReturnError, ReturnMessage, ReturnPath, ReturnStep};
