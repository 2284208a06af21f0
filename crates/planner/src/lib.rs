//! Where a VM can go, and why not elsewhere.
