//! What to send for a page: zero, raw, compressed.
