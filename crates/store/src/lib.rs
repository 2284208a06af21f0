//! The store: ordered keys, revisions, compare-and-swap, watch.
