//! The HTTP contract, typed client, certificates.
