//! The fleet's programs; they log to standard error.

pub(crate) mod carrier;
