//! The decoder and the encoder against captured, hand-made and damaged streams.

mod captures;
mod common;
mod properties;
mod refusals;
