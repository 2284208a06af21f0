//! The decoder and the encoder against captured, hand-made and damaged streams.

#![allow(clippy::unwrap_used)]

mod captures;
mod common;
mod encoding;
mod properties;
mod refusals;
