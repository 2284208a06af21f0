//! One per host: supervises QEMUs and carriers, reports facts.
