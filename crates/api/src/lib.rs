//! The HTTP contract: paths, bodies, problem+json, typed client, certificates.

pub mod body;
